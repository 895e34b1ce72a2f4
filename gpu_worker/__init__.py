"""The machine behind the contract: a RunPod serverless worker, deployable alone."""
