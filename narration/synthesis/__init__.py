"""Clips for the chunks that have none: jobs are submitted, attempts judged, the best clip stored.

`synthesizer` makes one clip, `candidate` judges an attempt, `clip_history` holds what a clip has cost so
far, `job_records` which job was submitted for it, `continuity` cuts its context from the clip before;
`budget` says what may still be spent, `run_state` what a run has made and failed, `progress` and
`report` what is shown of it.
"""
