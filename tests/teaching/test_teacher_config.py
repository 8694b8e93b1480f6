"""The config branch `teacher`: what is refused, and that a mixing actor can read it without PyTorch."""

import math
import subprocess
import sys

import pytest

from timbrel.config import from_json, to_json, with_values
from timbrel.errors import UserError
from timbrel.teaching.config import TeacherConfig


def test_without_a_teacher_nothing_is_needed():
    config = TeacherConfig()
    assert config.name == ""
    assert not config.needs_stages
    assert not config.needs_head
    assert not TeacherConfig(kd=0.3).needs_head


@pytest.mark.parametrize(("kd", "stages", "head"), [(0.0, True, False), (0.3, True, True), (1.0, False, True)])
def test_what_a_teacher_needs(kd, stages, head):
    config = TeacherConfig(name="vggish", kd=kd, head="a run")
    assert (config.needs_stages, config.needs_head) == (stages, head)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"weight": -0.1}, "weight must lie between 0 and 1, not -0.1"),
        ({"weight": 1.1}, "weight must lie between 0 and 1"),
        ({"weight": math.nan}, "weight must lie between 0 and 1"),
        ({"kd": 2.0}, "kd must lie between 0 and 1"),
        ({"temperature": 0.0}, "temperature must be finite and above 0"),
        ({"temperature": math.inf}, "temperature must be finite and above 0"),
        ({"scale": -1.0}, "scale must be finite and above 0"),
        ({"scale": math.nan}, "scale must be finite and above 0"),
        ({"offset": math.inf}, "offset must be finite"),
        ({"weights": "tagger.pth"}, r"tagger\.pth.*teacher\.name"),
        ({"student_repeat": (1, 0), "teacher_repeat": (6, 6)}, r"student_repeat \(1,0\) must be of numbers from 1"),
        ({"student_repeat": (1,), "teacher_repeat": (-2,)}, r"teacher_repeat \(-2\) must be of numbers from 1"),
        (
            {"student_repeat": (1, 1)},
            r"student_repeat \(1,1\) and teacher_repeat \(none\) must have one number a stage",
        ),
        ({"student_repeat": (1,), "teacher_repeat": (6, 6)}, "must have one number a stage"),
        ({"student_repeat": (1, -1), "teacher_repeat": (6, 6)}, r"the mean \(-1\) at the same stages"),
    ],
)
def test_values_that_mean_nothing(values, told):
    with pytest.raises(ValueError, match=told):
        TeacherConfig(**values)


def test_from_the_command_line():
    texts = {"name": "openl3", "offset": "2.24", "student_repeat": "1,2,2", "teacher_repeat": "1,1,1", "stages": "all"}
    config = with_values(TeacherConfig(), texts)
    assert config == TeacherConfig(
        name="openl3", offset=2.24, student_repeat=(1, 2, 2), teacher_repeat=(1, 1, 1), stages="all"
    )
    assert from_json(TeacherConfig, to_json(config), "here") == config


@pytest.mark.parametrize("values", [{"weight": "1.5"}, {"temperature": "0"}, {"distance": "euclid"}, {"weights": "x"}])
def test_from_the_command_line_a_sentence(values):
    with pytest.raises(UserError, match=next(iter(values))):
        with_values(TeacherConfig(), values)


@pytest.mark.parametrize(
    ("values", "share", "normalisation"),
    [
        ({"name": "vggish"}, 0.8, (128.0, 1 / 256)),
        ({"name": "openl3"}, 0.8, (2.24, 1.0)),
        ({"name": "passt"}, 0.9, (0.0, 1.0)),
        ({"name": "panns"}, 0.9, (0.0, 1.0)),
        ({"name": "my vectors"}, 0.8, (0.0, 1.0)),
        ({"name": "vggish", "offset": 0.0, "weight": 0.0}, 0.0, (0.0, 1 / 256)),
        ({"name": "vggish", "scale": 2.0}, 0.8, (128.0, 2.0)),
    ],
)
def test_what_is_not_given_is_as_published_for_embeddings_of_that_name(values, share, normalisation):
    config = TeacherConfig(**values)
    assert (config.share, config.normalisation) == (share, normalisation)
    given = with_values(TeacherConfig(name="t", weight=0.3, offset=1.0, scale=3.0), {"name": "vggish"})
    assert (given.share, given.normalisation) == (0.3, (1.0, 3.0))
    assert with_values(given, {"weight": "none", "offset": "none", "scale": "none"}) == TeacherConfig(name="vggish")
    assert from_json(TeacherConfig, to_json(config), "here") == config


def test_free_of_pytorch():
    check = "import sys, timbrel.teaching.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
