"""RunPod's queue on this machine: job API for clients, worker API for the SDK, real workers between them.

- `__main__`, `launch`: the command, and starting it as a process from the pipeline
- `endpoint`: `serve_endpoint`, which opens and closes all of it
- `client_api`, `worker_api`, `json_bodies`: the two HTTP APIs
- `job_queue`, `queued_job`, `ended_jobs`, `worker_registry`: the queue's rules, without HTTP or processes
- `change_notifier`: HTTP requests that wait for the queue to change
- `workers`, `supervisor`, `windows_job`, `environment`: worker processes and what they are started with
"""
