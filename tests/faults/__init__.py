"""Tests of whole narrations under faults, and the faults; `docs/faults.md` has them as a table.

A narration of four chunks (`narration_case`, `stored_objects`, `published`) talks to real services
through proxies (`services`). Faults of requests are in `endpoint_faults`, `worker_faults`,
`store_faults` and `network_faults` (`matrix` has all of them, `fault` says what one is,
`narration_requests` which request it meets). Others: `machine_faults`, `bad_audio`,
`interruptions`, damaged clips in `stored_objects`. Fixtures are in `conftest`, some of them from
`support.narrations`; `short_retry_delays` makes tests quick.
"""
