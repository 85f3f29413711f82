"""What tests of several parts need."""

import pytest

from checker import cli


@pytest.fixture
def call(capsys):
    """Calls the checker's command line; returns exit code, output and errors."""

    def run(*arguments):
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return code, out, err

    return run
