"""All faults that are put before a narration by a proxy; `docs/faults.md` has them as a table."""

from __future__ import annotations

from faults.endpoint_faults import ENDPOINT_FAULTS
from faults.network_faults import NETWORK_FAULTS
from faults.store_faults import STORE_FAULTS
from faults.worker_faults import WORKER_FAULTS

FAULTS = [*ENDPOINT_FAULTS, *WORKER_FAULTS, *STORE_FAULTS, *NETWORK_FAULTS]
