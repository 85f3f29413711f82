"""The command `mcp` where it cannot serve."""

import sys


def test_the_server_without_its_library_is_one_sentence(call, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    monkeypatch.setitem(sys.modules, "mcp", None)
    code, out, err = call("mcp", tmp_path)
    assert (code, out) == (2, "")
    assert err == "checker: checker mcp needs the extra: pip install 'training-checker[mcp]'\n"


def test_a_folder_that_is_not_there_is_one_sentence(call):
    assert call("mcp", "/nowhere") == (2, "", "checker: /nowhere: no such folder\n")
