import importlib.util
import sys
from types import ModuleType

import pytest
from pycocotools.cocoeval import COCOeval

from smca.errors import InputError
from smca.evaluation.coco_backend import BACKENDS, resolve_backend


def _refuse(*args):
    raise RuntimeError("this build has no compiled operators")


def _module(**functions):
    module = ModuleType("detectron2._C")
    vars(module).update(functions)
    return module


# What builds of Detectron2 without C++ have in the place of `_C`.
USELESS = {
    "none": lambda: None,
    "refuses to give": lambda: _module(__getattr__=_refuse),
    "refuses when called": lambda: _module(COCOevalEvaluateImages=_refuse),
}


@pytest.mark.parametrize("useless", USELESS)
def test_auto_passes_over_what_is_of_no_use(monkeypatch, useless):
    monkeypatch.setitem(sys.modules, "detectron2._C", USELESS[useless]())
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    assert resolve_backend("auto") == ("pycocotools", COCOeval)
    for name, hint in (("detectron2", "compiled"), ("faster_coco_eval", "pip install")):
        with pytest.raises(InputError, match=f"{name}.*not usable.*{hint}"):
            resolve_backend(name)


def test_auto_prefers_detectron2(monkeypatch):
    monkeypatch.setitem(sys.modules, "detectron2._C", _module(COCOevalEvaluateImages=lambda *_: []))
    name, cls = resolve_backend("auto")
    assert name == "detectron2"
    assert cls.__name__ == "COCOeval_opt"


@pytest.mark.skipif(
    importlib.util.find_spec("faster_coco_eval") is None, reason="faster-coco-eval is missing"
)
def test_auto_prefers_faster_coco_eval_to_pycocotools(monkeypatch):
    monkeypatch.setitem(sys.modules, "detectron2._C", None)
    name, cls = resolve_backend("auto")
    assert name == "faster_coco_eval"
    assert cls is not COCOeval


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="'fast' is unknown.*auto, " + ", ".join(BACKENDS)):
        resolve_backend("fast")
