"""Provisioning of the bucket, the RunPod endpoint and the Prefect server; RunPod's queue on this machine.

- `s3_bucket`, `bucket_rules`: the bucket, its lifecycle and CORS rules
- `runpod_endpoint`, `endpoint_file`, `endpoint.toml`: the RunPod endpoint from a settings file
- `prefect_setup`, `run_environment`, `secret_blocks`, `automations`: work pool, keys, automations
- `provisioning`: changes that each script shows before it applies them
- `local_runpod`: a local stand-in for RunPod
- `compose.yaml`: Prefect server, workers and an S3 server on one machine
"""
