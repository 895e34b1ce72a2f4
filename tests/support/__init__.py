"""Kits that several test files share: what they start, build or replace.

Fixtures that any test may use (`tests/conftest.py` registers them): `narrations` (`prefect_url`,
`draft_endpoint`, `cli`), `deployments` (`servers`, `deployed`, `workspace`), `setup_server`,
`engine_fixtures`.

Servers and programs: `prefect_servers`, `postgres`, `stores` (S3 servers), `browser`, `terminals`;
`orphans` ends them all if the test process is killed.
RunPod: `recording_endpoint`, `local_apis`, `local_processes` and `job_queue` for the local endpoint,
`fake_runpod` (its job API without a server), `runpod_account` (its management API), `worker`,
`synthesis_requests`, `fixed_time_engine`. Speech servers: `speech_server`, `speech_engine`.
Faults: `http_proxy`, `proxy_actions` and `http_exchange` for whole narrations, `faulty_http` for the
store, `loopback_server` below HTTP, `downloads` for files from the internet. Time: `clocks`.
Scripts: `scripts`, `deployed_scripts`, `chunks`. What tests compute without a run: `plans`, `reports`.
The project's pages: `pages`.
Speech: `audio` (with `espeak_program`), `audio_files`, `voices`, `mastering`, `captions`.
Models: `engines`, `tiny_higgs`, `tiny_codec`, `published_checkpoints`, `higgs_oracle` (transformers'
own answers), `hub` (a model hub).
"""
