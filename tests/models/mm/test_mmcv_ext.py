"""The stand-in for mmcv's compiled ops."""

import sys
import types

import pytest
import torch
import torchvision

from al_lab.core.errors import ConfigError
from al_lab.models.mm import mmcv_ext

pytest.importorskip("mmcv")


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process, in which nobody asked for the ops yet."""
    import mmcv

    monkeypatch.setitem(sys.modules, "mmcv._ext", None)
    monkeypatch.delitem(sys.modules, "mmcv._ext")
    monkeypatch.setattr(mmcv, "_ext", None, raising=False)


@pytest.mark.usefixtures("fresh")
def test_installing_twice_is_installing_once() -> None:
    if mmcv_ext.install():
        pytest.skip("this mmcv has compiled ops")
    first = sys.modules["mmcv._ext"]
    assert mmcv_ext.install() is False
    assert sys.modules["mmcv._ext"] is first
    assert first.__spec__ is not None
    with pytest.raises(AttributeError):
        first.__wrapped__  # noqa: B018 - introspection must not be fooled


@pytest.mark.usefixtures("fresh")
def test_a_compiled_extension_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = types.ModuleType("mmcv._ext")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name == "mmcv._ext" else None)
    monkeypatch.setattr("importlib.import_module", lambda name: sys.modules.setdefault(name, compiled))
    assert mmcv_ext.install() is True
    assert sys.modules["mmcv._ext"] is compiled


@pytest.mark.usefixtures("fresh")
def test_a_missing_op_is_named_when_called() -> None:
    if mmcv_ext.install():
        pytest.skip("this mmcv has compiled ops")
    with pytest.raises(ConfigError, match="a model that calls 'carafe_forward'"):
        sys.modules["mmcv._ext"].carafe_forward()


@pytest.mark.usefixtures("fresh")
def test_without_mmcv_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mmcv", None)
    with pytest.raises(
        ConfigError, match="expected mmcv, mmdet and mmsegmentation for this network.*install the extra 'mm'"
    ):
        mmcv_ext.install()


def test_nms_takes_half_precision() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30]])
    confidence = torch.tensor([0.5, 0.9, 0.1])
    assert mmcv_ext.nms(boxes.half(), confidence, 0.5, 0).tolist() == [1, 2]


def test_focal_loss_and_its_gradient() -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = torch.tensor([0, 1, 2, 3, 3, 1])
    hot = torch.nn.functional.one_hot(target, 4)[:, :3].double()
    reference = logits.clone().requires_grad_()
    expected = torchvision.ops.sigmoid_focal_loss(reference, hot, alpha=0.25, gamma=2.0)
    expected.sum().backward()
    output, gradient = torch.empty_like(logits), torch.empty_like(logits)
    mmcv_ext.sigmoid_focal_loss_forward(logits, target, torch.empty(0), output, 2.0, 0.25)
    mmcv_ext.sigmoid_focal_loss_backward(logits, target, torch.empty(0), gradient, 2.0, 0.25)
    torch.testing.assert_close(output, expected.detach())
    torch.testing.assert_close(gradient, reference.grad)


def test_roi_align_and_its_gradient() -> None:
    maps = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    rois = torch.tensor([[0.0, 1, 1, 6, 6]])
    reference = maps.clone().requires_grad_()
    expected = torchvision.ops.roi_align(reference, rois, (2, 2), 1.0, 2, True)
    expected.sum().backward()
    output, gradient = torch.empty(1, 2, 2, 2), torch.empty_like(maps)
    nothing = torch.empty(0)
    mmcv_ext.roi_align_forward(maps, rois, output, nothing, nothing, 2, 2, 1.0, 2, 1, True)
    mmcv_ext.roi_align_backward(torch.ones_like(output), rois, nothing, nothing, gradient, 2, 2, 1.0, 2, 1, True)
    torch.testing.assert_close(output, expected.detach())
    torch.testing.assert_close(gradient, reference.grad)
