"""Creates or updates the RunPod endpoint, and a template like it, from `infra/endpoint.toml`.

`python -m infra.runpod_endpoint [--dry-run]` shows on stderr what differs, stops if the endpoint could
cost more an hour than the file allows, changes what differs, and prints the endpoint's id. Run again,
it changes nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx

from infra.endpoint_file import EndpointFile, read_endpoint_file
from infra.provisioning import (
    ABSENT,
    Difference,
    ProvisioningChange,
    apply_changes,
    compare,
    describe_changes,
    flatten,
    run_script,
)
from narration.endpoint.management import JsonObject, ManagementApi
from narration.errors import BudgetError, EndpointError, SettingsError
from narration.settings import read_settings

SETTINGS_FILE = Path(__file__).with_name("endpoint.toml")

_SETS = frozenset(
    {"dataCenterIds", "gpu.allowedCudaVersions", "gpu.excludedTypes", "gpu.pools", "networkVolumes", "ports"}
)
"""Lists whose order means nothing to RunPod, and which it may return in another order."""


class Provisioner:
    """Compares the settings file with the endpoint and the template of the account."""

    def __init__(self, file: EndpointFile, management: ManagementApi) -> None:
        self._file = file
        self._management = management
        self._existing = self._find_endpoint()

    @property
    def endpoint_id(self) -> str | None:
        """The endpoint's id, None while there is no endpoint."""
        return str(self._existing["id"]) if self._existing else None

    def changes(self) -> list[ProvisioningChange]:
        """The changes of the template and the endpoint, in the order to apply them."""
        template = self._find("/templates", "templates", self._file.template_name)
        return [
            self._change("template", "/templates", self._file.template(), template),
            self._change("endpoint", "/serverless", self._file.endpoint(), self._existing),
        ]

    def hourly_price(self) -> float:
        """USD an hour with every worker running on the dearest GPU it may get, at list price.

        Raises `SettingsError` for a pool without a known price, for which no cap could be checked.
        """
        listed = self._management.read("/catalog/gpus").get("gpus")
        excluded = set(self._file.gpu.excluded)
        prices: dict[str, list[float]] = {}
        for gpu in listed if isinstance(listed, list) else []:
            price = gpu.get("price", {}).get("serverless")
            if gpu.get("pool") and price is not None and gpu.get("id") not in excluded:
                prices.setdefault(gpu["pool"], []).append(float(price))
        dearest = max(self._pool_price(pool, prices) for pool in self._file.gpu.pools)
        return dearest * self._file.gpu.count * self._file.workers.max

    def check_cost(self) -> str:
        """A sentence about the highest price; raises `BudgetError` if it is more than the file allows."""
        price, cap = self.hourly_price(), self._file.max_usd_per_hour
        highest = f"{price:.2f} USD an hour with all {self._file.workers.max} workers running"
        if price > cap:
            raise BudgetError(
                f"the endpoint could cost {highest}; max_usd_per_hour is {cap:.2f}",
                remedy="lower workers.max, choose a cheaper pool, or raise max_usd_per_hour",
            )
        idle = price * self._file.workers.min / max(self._file.workers.max, 1)
        return f"at most {highest}, {idle:.2f} without jobs"

    def verify(self) -> None:
        """Read the endpoint back; raises `EndpointError` if it does not have the values that were written."""
        self._existing = self._find_endpoint()
        remaining = [change for change in self.changes() if change.needed]
        if remaining:
            lines = "; ".join(" ".join(line.split()) for line in describe_changes(remaining).splitlines())
            raise EndpointError(
                f"RunPod accepted the changes, but still shows other values: {lines}",
                remedy="compare with the console before sending jobs",
            )

    def _pool_price(self, pool: str, listed: Mapping[str, list[float]]) -> float:
        if pool in listed:
            return max(listed[pool])
        if pool in self._file.prices:
            return self._file.prices[pool]
        raise SettingsError(
            f"no price is known for GPU pool {pool}",
            remedy=f"check its name (RunPod's catalogue has {', '.join(sorted(listed)) or 'none'}), "
            "or add its price under [prices]",
        )

    def _find_endpoint(self) -> JsonObject | None:
        endpoint = self._find("/serverless", "endpoints", self._file.name)
        if endpoint and (endpoint.get("type", "QUEUE") != "QUEUE" or not endpoint.get("gpu")):
            raise SettingsError(
                f"{self._file.name} is an endpoint of another type, not a queue on GPUs",
                remedy="delete it, or choose another name: an endpoint's type cannot be changed",
            )
        return endpoint

    def _find(self, path: str, collection: str, name: str) -> JsonObject | None:
        """The object of this name in the collection; raises `SettingsError` if there are several."""
        objects = self._management.read(path).get(collection)
        # RunPod's console has added this suffix to the names of endpoints with FlashBoot.
        names = {name, f"{name} -fb"}
        matches = [one for one in objects if one.get("name") in names] if isinstance(objects, list) else []
        if len(matches) > 1:
            ids = ", ".join(str(one.get("id")) for one in matches)
            raise SettingsError(
                f"several {collection} are named {name}: {ids}", remedy="rename or delete all but one"
            )
        return matches[0] if matches else None

    def _change(
        self, kind: str, path: str, desired: JsonObject, existing: JsonObject | None
    ) -> ProvisioningChange:
        object_name = f"{kind} {desired['name']}"
        settings = {name: value for name, value in desired.items() if name not in ("name", "type")}
        if existing is None:
            differences = compare({}, _comparable(settings, settings))
            create = partial(self._management.create, path, desired)
            return ProvisioningChange(object_name, False, differences, create)
        differences = compare(_comparable(existing, settings), _comparable(settings, settings))
        changed = {difference.name.partition(".")[0] for difference in differences}
        body = {name: value for name, value in _patch(settings).items() if name in changed}
        update = partial(self._management.update, f"{path}/{existing['id']}", body)
        hidden = tuple(map(_hide_value, differences))
        return ProvisioningChange(f"{object_name} ({existing['id']})", True, hidden, update)


def _comparable(actual: JsonObject, settings: JsonObject) -> JsonObject:
    """The fields of `actual` that `settings` has, as one level of names; empty and absent are the same."""
    fields = {name: actual[name] for name in [*settings, "registry"] if name in actual}
    return {
        name: sorted(map(str, value)) if name in _SETS and isinstance(value, list) else value
        for name, value in flatten(fields).items()
        if value not in (None, "", [], {})
    }


def _patch(settings: JsonObject) -> JsonObject:
    """The body of a PATCH: a field that the file leaves out keeps its value unless it is cleared here."""
    gpu = settings.get("gpu")
    clear_min_cuda = {"gpu": {"minCudaVersion": "", **gpu}} if isinstance(gpu, dict) else {}
    return {"registry": None, **settings, **clear_min_cuda}


def _hide_value(difference: Difference) -> Difference:
    """The difference without the actual value of a variable, which may be a secret set by hand."""
    if difference.name.startswith("env.") and difference.actual != ABSENT:
        return replace(difference, actual="(another)")
    return difference


def _run(path: Path, *, dry_run: bool, transport: httpx.BaseTransport | None) -> None:
    file = read_endpoint_file(path)
    key = read_settings().management_key
    if key is None:
        raise SettingsError(
            "RUNPOD_MANAGEMENT_KEY is not set",
            remedy="create a key in RunPod's console that may manage serverless endpoints and templates",
        )
    with ManagementApi(key.get_secret_value(), transport=transport) as management:
        provisioner = Provisioner(file, management)
        changes = provisioner.changes()
        sys.stderr.write(f"cost: {provisioner.check_cost()}\n")
        apply_changes(changes, dry_run=dry_run)
        if not dry_run and any(change.needed for change in changes):
            provisioner.verify()
    if provisioner.endpoint_id:
        sys.stdout.write(f"{provisioner.endpoint_id}\n")


def main(arguments: Sequence[str] | None = None, *, transport: httpx.BaseTransport | None = None) -> int:
    """Parse `arguments` and provision; returns the exit status. Tests replace RunPod by `transport`."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.runpod_endpoint",
        description="Create or update the RunPod endpoint, and a template like it, from a settings file. "
        "Shows what differs, stops if the endpoint could cost more an hour than the file allows, and prints "
        "its id, for RUNPOD_HIGGS_ENDPOINT_ID, on standard output. The key is taken from "
        "RUNPOD_MANAGEMENT_KEY. Run again, it changes nothing.",
    )
    parser.add_argument(
        "--file", type=Path, default=SETTINGS_FILE, help="the settings file (default: %(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would change and change nothing")
    parsed = parser.parse_args(arguments)
    return run_script(lambda: _run(parsed.file, dry_run=parsed.dry_run, transport=transport))


if __name__ == "__main__":
    sys.exit(main())
