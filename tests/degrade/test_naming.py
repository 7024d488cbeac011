"""Names that are no kind's lead to the kind that was meant."""

from __future__ import annotations

import pytest

from moesaic.degrade import KINDS
from moesaic.degrade.naming import ALIASES, did_you_mean


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("blur", "; did you mean motion_blur or defocus?"),
        ("fog", "; did you mean haze?"),
        ("Dark", "; did you mean low_light?"),
        ("motion-blur", "; did you mean motion_blur?"),
        ("jpg", "; did you mean jpeg?"),
        ("elephant", ""),
        (None, ""),
    ],
)
def test_what_was_meant(name, told):
    assert did_you_mean(name) == told


def test_aliases_lead_to_kinds_and_are_none():
    assert {kind for kinds in ALIASES.values() for kind in kinds} <= set(KINDS)
    assert not set(ALIASES) & set(KINDS)
