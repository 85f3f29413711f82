import sys

import pytest

from trainer import named
from trainer.errors import SpecError


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, as an installed program sees it: not on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("mine")]:
        del sys.modules[name]


def test_what_stands_in_the_current_folder_is_found(here):
    (here / "mine_a").mkdir()
    (here / "mine_a" / "inner.py").write_text("class Net:\n    @staticmethod\n    def build(): return 7\n")
    assert named.load("mine_a.inner:Net.build", "model.kind")() == 7
    assert named.load("json:loads", "model.kind")("1") == 1


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (None, "mine_b:load", "data.kind = \"mine_b:load\": there is no module 'mine_b' in "),
        ("", "mine_c.more:load", "there is no module 'mine_c.more' in "),
        ("def lode(): pass", "mine_d:load", "mine_d.py; did you mean lode?"),
        (
            "import no_such_package",
            "mine_e:load",
            "mine_e.py:1: ModuleNotFoundError: No module named 'no_such_package'",
        ),
        ("\n1 / 0", "mine_f:load", "mine_f.py:2: ZeroDivisionError: division by zero"),
        ("def x(:", "mine_g:load", "mine_g.py:1: SyntaxError: invalid syntax"),
        ("import sys; sys.exit(3)", "mine_h:load", "mine_h.py:1: SystemExit: 3"),
    ],
    ids=["no-module", "no-package", "no-name", "its-import", "its-error", "its-syntax", "a-script"],
)
def test_what_cannot_be_imported_is_a_fault_of_the_spec(here, content, name, said):
    if content is not None:
        (here / f"{name[:6]}.py").write_text(content)
    with pytest.raises(SpecError) as told:
        named.load(name, "data.kind")
    assert said in str(told.value)
    assert f'data.kind = "{name}"' in str(told.value)
