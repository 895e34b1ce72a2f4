"""Kits that several test files share: what they start, build or replace. Fixtures are in two of them.

Fixtures of every test (`tests/conftest.py` registers both): `narrations` (`prefect_url`,
`draft_endpoint`, `cli`) and `deployments` (`servers`, `deployed`, `workspace`).

Processes: `prefect_servers`, `postgres`, `stores` (S3 servers), `browser`; `orphans` ends them all.
RunPod: `recording_endpoint` (the local endpoint), `endpoint` (its job API without a server),
`runpod_account` (its management API), `worker` (voice samples, an engine that answers with a tone).
Faults: `http_proxy`, `proxy_actions` and `http_exchange` for whole narrations, `faulty_http` for the
store, `downloads` for files from the internet. Time: `clocks`.
Speech and scripts: `audio` (with `espeak_program`), `scripts`, `plans`.
Models: `tiny_higgs`, `tiny_codec`, `higgs_oracle` (transformers' own answers), `hub` (a model hub).
"""
