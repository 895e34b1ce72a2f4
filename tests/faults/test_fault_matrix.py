"""A narration under each fault of the matrix ends complete or says what to do, and pays no job twice."""

from __future__ import annotations

import pytest
from support.proxy_actions import never_answer

from faults.fault import Fault
from faults.matrix import FAULTS
from faults.narration_case import CHUNKS, CLOSED_BY_COLLECTOR, NarrationCase
from faults.narration_requests import CLIP, MANIFEST
from faults.published import Published
from faults.store_faults import STORE_UNRELIABLE
from narration.errors import NarrationError

pytestmark = CLOSED_BY_COLLECTOR


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_narration_survives_the_fault_or_says_what_to_do(
    case: NarrationCase, reference: Published, fault: Fault
) -> None:
    """It ends identical, or its error names chunk and remedy and a second run pays only what is missing."""
    fault.arrange(case)
    services = case.services
    if fault.ends == "complete":
        assert case.run()["synthesized"] == CHUNKS
        assert services.unused_rules() == []
        assert services.accepted_jobs <= CHUNKS + fault.lost
    else:
        with pytest.raises(NarrationError) as failure:
            case.run()
        message = str(failure.value)
        assert [part for part in fault.message if part not in message] == [], message
        assert services.unused_rules() == []
        paid, stored = services.accepted_jobs, len(case.stored.keys("/clips/", ".json"))
        services.reset()
        assert case.run()["synthesized"] == CHUNKS - stored
        assert paid + services.accepted_jobs <= CHUNKS + fault.lost
    assert case.published() == reference
    assert case.stored.job_records() == []


@pytest.mark.fault_row(STORE_UNRELIABLE)
def test_a_request_that_the_store_never_answers_is_repeated(
    case: NarrationCase, reference: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store's client ends it by its own time limit and tries again."""
    monkeypatch.setattr("narration.store.s3_client.READ_SECONDS", 1)
    for method, path in (("PUT", CLIP), ("GET", CLIP), ("PUT", MANIFEST)):
        case.services.store_proxy.add_rule(method, path, never_answer(5))
    case.run()
    assert case.published() == reference
    assert case.services.accepted_jobs == CHUNKS
