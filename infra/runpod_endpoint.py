"""Creates or updates the RunPod endpoint, and a template like it, from `infra/endpoint.toml`.

`python -m infra.runpod_endpoint [--dry-run]` shows on stderr what differs, refuses what could cost more
an hour than the file allows, makes the rest so, and prints the endpoint's id. Run again, it changes
nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx

from infra.endpoint_file import Document, EndpointFile, read_endpoint_file
from infra.plan import (
    ABSENT,
    Difference,
    ProvisioningChange,
    apply_changes,
    compare,
    describe_changes,
    flatten,
    run_script,
)
from narration.endpoint.management import ManagementApi
from narration.errors import BudgetError, EndpointError, SettingsError
from narration.settings import read_settings

SETTINGS_FILE = Path(__file__).with_name("endpoint.toml")

_SETS = frozenset(
    {"dataCenterIds", "gpu.allowedCudaVersions", "gpu.excludedTypes", "gpu.pools", "networkVolumes", "ports"}
)
"""Lists whose order means nothing to RunPod, and which it may give back in another."""


class Provisioner:
    """What the settings file asks for, against what the account has."""

    def __init__(self, file: EndpointFile, management: ManagementApi) -> None:
        self._file = file
        self._management = management
        self._found = self._endpoint()

    @property
    def endpoint_id(self) -> str | None:
        """Id of the endpoint, None while there is none."""
        return str(self._found["id"]) if self._found else None

    def plan(self) -> list[ProvisioningChange]:
        """What differs, in the order to apply it."""
        template = self._one("/templates", "templates", self._file.template_name)
        return [
            self._change("template", "/templates", self._file.template(), template),
            self._change("endpoint", "/serverless", self._file.endpoint(), self._found),
        ]

    def hourly_price(self) -> float:
        """USD an hour with every worker running on the dearest GPU it may get, at list price.

        Raises `SettingsError` for a pool without a known price, since then no cap could hold.
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
        """What it may cost, in words; raises `BudgetError` where that is more than the file allows."""
        price, cap = self.hourly_price(), self._file.max_usd_per_hour
        words = f"{price:.2f} USD an hour with all {self._file.workers.max} workers running"
        if price > cap:
            raise BudgetError(
                f"the endpoint could cost {words}; max_usd_per_hour is {cap:.2f}",
                remedy="lower workers.max, choose a cheaper pool, or raise max_usd_per_hour",
            )
        always = price * self._file.workers.min / max(self._file.workers.max, 1)
        return f"at most {words}, {always:.2f} with none at work"

    def verify(self) -> None:
        """Read back what was written; raises `EndpointError` where RunPod took it and did otherwise."""
        self._found = self._endpoint()
        left = [change for change in self.plan() if change.needed]
        if left:
            others = "; ".join(" ".join(line.split()) for line in describe_changes(left).splitlines())
            raise EndpointError(
                f"RunPod accepted the changes and still shows others: {others}",
                remedy="compare with the console before sending jobs",
            )

    def _pool_price(self, pool: str, listed: Mapping[str, list[float]]) -> float:
        if pool in listed:
            return max(listed[pool])
        if pool in self._file.prices:
            return self._file.prices[pool]
        raise SettingsError(
            f"no price is known for GPU pool {pool}",
            remedy=f"check its name; the catalogue lists {', '.join(sorted(listed)) or 'none'}; "
            "or state its price under [prices]",
        )

    def _endpoint(self) -> Document | None:
        found = self._one("/serverless", "endpoints", self._file.name)
        if found and (found.get("type", "QUEUE") != "QUEUE" or not found.get("gpu")):
            raise SettingsError(
                f"{self._file.name} is an endpoint of another kind, and no queue on GPUs",
                remedy="delete it, or choose another name: the kind cannot be changed",
            )
        return found

    def _one(self, path: str, collection: str, name: str) -> Document | None:
        listed = self._management.read(path).get(collection)
        # RunPod's console has marked the names of endpoints with FlashBoot.
        names = {name, f"{name} -fb"}
        found = [one for one in listed if one.get("name") in names] if isinstance(listed, list) else []
        if len(found) > 1:
            ids = ", ".join(str(one.get("id")) for one in found)
            raise SettingsError(
                f"several {collection} are named {name}: {ids}", remedy="rename or delete all but one"
            )
        return found[0] if found else None

    def _change(self, kind: str, path: str, wanted: Document, found: Document | None) -> ProvisioningChange:
        what = f"{kind} {wanted['name']}"
        settings = {name: value for name, value in wanted.items() if name not in ("name", "type")}
        if found is None:
            shown = compare({}, _view(settings, settings))
            return ProvisioningChange(what, False, shown, partial(self._management.create, path, wanted))
        differences = compare(_view(found, settings), _view(settings, settings))
        changed = {difference.name.partition(".")[0] for difference in differences}
        body = {name: value for name, value in _for_update(settings).items() if name in changed}
        apply = partial(self._management.update, f"{path}/{found['id']}", body)
        return ProvisioningChange(f"{what} ({found['id']})", True, tuple(map(_discreet, differences)), apply)


def _view(document: Document, wanted: Document) -> Document:
    """The settings that `wanted` is about, as one level of names; empty and absent are the same."""
    chosen = {name: document[name] for name in [*wanted, "registry"] if name in document}
    return {
        name: sorted(map(str, value)) if name in _SETS and isinstance(value, list) else value
        for name, value in flatten(chosen).items()
        if value not in (None, "", [], {})
    }


def _for_update(settings: Document) -> Document:
    """`settings` as a PATCH: what the file leaves out must be cleared in words, or it stays."""
    gpu = settings.get("gpu")
    floor = {"gpu": {"minCudaVersion": "", **gpu}} if isinstance(gpu, dict) else {}
    return {"registry": None, **settings, **floor}


def _discreet(difference: Difference) -> Difference:
    """The same without the present value of a variable, which may be a secret set by hand."""
    if difference.name.startswith("env.") and difference.present != ABSENT:
        return replace(difference, present="(another)")
    return difference


def _run(path: Path, *, dry_run: bool, transport: httpx.BaseTransport | None) -> None:
    file = read_endpoint_file(path)
    key = read_settings().management_key
    if key is None:
        raise SettingsError(
            "RUNPOD_MANAGEMENT_KEY is not set",
            remedy="make a key in RunPod's console that may manage serverless endpoints and templates",
        )
    with ManagementApi(key.get_secret_value(), transport=transport) as management:
        provisioner = Provisioner(file, management)
        plan = provisioner.plan()
        sys.stderr.write(f"cost: {provisioner.check_cost()}\n")
        apply_changes(plan, dry_run=dry_run)
        if not dry_run and any(change.needed for change in plan):
            provisioner.verify()
    if provisioner.endpoint_id:
        sys.stdout.write(f"{provisioner.endpoint_id}\n")


def main(arguments: Sequence[str] | None = None, *, transport: httpx.BaseTransport | None = None) -> int:
    """Parse `arguments`, provision; return the exit status. `transport` answers in RunPod's stead."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.runpod_endpoint",
        description="Create or update the RunPod endpoint, and a template like it, from a settings file. "
        "Shows what differs, refuses what could cost more an hour than the file allows, and prints the "
        "endpoint's id, for RUNPOD_HIGGS_ENDPOINT_ID, on standard output. The key is taken from "
        "RUNPOD_MANAGEMENT_KEY. Run again, it changes nothing.",
    )
    parser.add_argument(
        "--file", type=Path, default=SETTINGS_FILE, help="the settings file (default: %(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would change and change nothing")
    chosen = parser.parse_args(arguments)
    return run_script(lambda: _run(chosen.file, dry_run=chosen.dry_run, transport=transport))


if __name__ == "__main__":
    sys.exit(main())
