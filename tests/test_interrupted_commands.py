"""Ctrl-C in commands that write a file: one line, and the status that a shell expects."""

import importlib

import pytest

COMMANDS = {
    "smca-export": ("smca.export.command", "load", ["--weights", "a.pth", "--output", "b.onnx"]),
    "smca-attention": ("smca.attention_view.command", "_run", ["a.jpg", "--weights", "a.pth"]),
    "smca-report": ("smca.report.command", "_run", ["run"]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_is_told_in_a_line(name, monkeypatch, capsys):
    module, called, arguments = COMMANDS[name]
    command = importlib.import_module(module)

    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, called, interrupted)
    assert command.main(arguments) == 130
    assert capsys.readouterr().err == f"{name}: interrupted\n"
