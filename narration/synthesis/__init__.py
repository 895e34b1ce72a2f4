"""Synthesis of the missing clips: jobs are run, their results judged, the best clip stored.

`synthesizer` makes one clip: `job_runner` runs the job of an attempt (`job_records` is the store's record
of it), `candidate` judges the result, `attempt_policy` decides what follows, `clip_history` holds the
attempts so far, `continuity` cuts the context from the clip before, `sidecar_builder` describes the clip
to store. Of a whole run, `budget` limits the price, `run_state` holds clips and failures, `progress` and
`report` describe it.
"""
