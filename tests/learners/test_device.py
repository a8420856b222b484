"""What a device is asked for: precision, float32 products, layout, fused kernels; a CPU is left as it is."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.ops.misc import FrozenBatchNorm2d

from al_lab.config.options import option
from al_lab.config.runtime import SPEED
from al_lab.core.errors import ConfigError
from al_lab.learners.checkpoint import load_checkpoint
from al_lab.learners.device import speed as speed_module
from al_lab.learners.device.precision import as_trained, best_precision, precision_on, products
from al_lab.learners.device.speed import Speed
from al_lab.learners.settings import TrainSettings
from al_lab.models.folding import fold_norms

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Let torch say that cuda:0 is a card of a compute capability."""

    def is_one(major: int, minor: int) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (major, minor))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Card")

    return is_one


@pytest.mark.parametrize(
    ("capability", "best", "lightning"), [((7, 5), 32, "32-true"), ((8, 0), "bf16-mixed", "bf16-mixed")]
)
def test_auto_is_bfloat16_on_a_card_that_has_it(card: Any, capability: Any, best: Any, lightning: str) -> None:
    card(*capability)
    assert best_precision(CUDA) == best and precision_on("auto", CUDA) == lightning
    assert precision_on(32, CUDA) == precision_on("auto", CPU) == "32-true" and best_precision(CPU) == 32


def test_no_mixture_is_taken_for_another(card: Any) -> None:
    card(7, 0)
    assert precision_on("bf16-mixed", CPU) == "bf16-mixed" and precision_on("16-mixed", CUDA) == "16-mixed"
    with pytest.raises(ConfigError, match="expected a GPU for trainer.precision=16-mixed, got a CPU"):
        precision_on("16-mixed", CPU)
    with pytest.raises(ConfigError, match=r"for trainer.precision=bf16-mixed, got Card \(compute capability 7.0\)"):
        precision_on("bf16-mixed", CUDA)


def test_float32_products_are_as_the_recipe_says_inside_a_network_only(card: Any) -> None:
    card(9, 0)
    now = lambda: (torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision)  # noqa: E731
    before = now()
    for tf32, word in ((True, "tf32"), (False, "ieee")):
        with as_trained(TrainSettings(batch_size=1, max_iters=1, tf32=tf32), CUDA):
            assert now() == (word, word)
        assert now() == before
    with products(True, CPU):
        assert now() == before


def test_the_options_are_those_the_configuration_knows() -> None:
    assert {*SPEED} == {*Speed.__dataclass_fields__}
    assert Speed(**option("runtime", "default")["speed"]) == Speed()


def test_a_card_gets_all_of_it_and_a_cpu_nothing(card: Any) -> None:
    card(9, 0)
    settings = TrainSettings(batch_size=1, max_iters=1, precision="auto")
    assert Speed().sentence(settings, CPU, has_one_size=True) == "a CPU: 32"
    assert Speed().sentence(settings, CUDA, has_one_size=True) == (
        "Card (compute capability 9.0): bf16-mixed, float32 products in TF32, channels_last, cudnn.benchmark, "
        "fused optimizer, frozen norms folded"
    )
    for device, is_card in ((CPU, False), (CUDA, True)):
        network = Speed().prepare(nn.Conv2d(3, 4, 3), device)
        assert network.weight.is_contiguous(memory_format=torch.channels_last) == is_card
        assert Speed().fuses(device) == is_card
        for has_one_size in (True, False):
            with Speed().algorithms(device, has_one_size):
                assert torch.backends.cudnn.benchmark == (is_card and has_one_size)
            assert not torch.backends.cudnn.benchmark


def _frozen() -> nn.Module:
    torch.manual_seed(0)
    network = resnet18(norm_layer=FrozenBatchNorm2d)
    for norm in network.modules():
        if isinstance(norm, FrozenBatchNorm2d):
            for name, (low, high) in {"weight": (0.5, 1), "bias": (-1, 1), "running_var": (0.5, 2)}.items():
                getattr(norm, name).uniform_(low, high)
            norm.running_mean.normal_()
    return network


def test_folded_norms_give_the_same_numbers_and_gradients_under_the_same_names() -> None:
    images, plain = torch.randn(2, 3, 64, 64), _frozen()
    folded = _frozen()
    assert fold_norms(folded) == sum(isinstance(m, FrozenBatchNorm2d) for m in plain.modules()) == 20
    assert plain.state_dict().keys() == folded.state_dict().keys()
    outputs = [network(images) for network in (plain, folded)]
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-5 * float(outputs[0].detach().abs().max()))
    for network, output in zip((plain, folded), outputs, strict=True):
        assert next(network.parameters()).grad is None
        output.square().mean().backward()
    for ours, theirs in zip(folded.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5 * float(theirs.grad.abs().max()))


def test_folded_norms_stay_in_half_precision() -> None:
    kinds: dict[str, set[torch.dtype]] = {}
    for name, network in (("plain", _frozen()), ("folded", _frozen())):
        if name == "folded":
            fold_norms(network)
        seen = kinds.setdefault(name, set())
        network.layer1[0].bn1.register_forward_hook(lambda *a, seen=seen: seen.add(a[2].dtype))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            network(torch.randn(1, 3, 32, 32))
    assert kinds == {"plain": {torch.float32}, "folded": {torch.bfloat16}}


def test_norms_that_a_training_changes_are_not_folded() -> None:
    network = resnet18()
    assert fold_norms(network) == 0
    images = torch.randn(2, 3, 32, 32)
    network(images)
    before = network.eval()(images)
    assert fold_norms(network) == 20
    torch.testing.assert_close(network(images), before, rtol=1e-4, atol=1e-5)


def test_blocks_of_others_with_the_same_names_are_left_alone() -> None:
    class NormFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn1, self.conv1 = FrozenBatchNorm2d(4), nn.Conv2d(4, 4, 3)

    assert fold_norms(NormFirst()) == 0


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_training_goes_on_with_another_kind_of_optimizer(
    make_learner: Callable[..., Any], make_task: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    recipe = {"optimizer": optimizer, "lr": 1e-3, "start": "continue"}
    first = make_task("first", stop_at=4)
    make_learner(recipe=recipe).fit(first)
    ends = []
    for is_card in (False, True):  # a fused optimizer is no card's alone: torch has it for CPUs, too
        monkeypatch.setattr(Speed, "fuses", lambda *_, is_card=is_card: is_card)
        task = make_task(f"then{is_card}", start="continue", init_checkpoint=first.checkpoint)
        make_learner(recipe=recipe).fit(task)
        ends.append(load_checkpoint(task.checkpoint))
    assert [group.get("fused") for end in ends for group in end["optimizer"]["param_groups"]] == [None, True]
    for name, value in ends[0]["state_dict"].items():
        torch.testing.assert_close(ends[1]["state_dict"][name], value, rtol=1e-4, atol=1e-5)


def test_without_a_compiler_compiling_is_refused(
    make_learner: Callable[..., Any], make_task: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match=r"compile=true: .*, got none of c\+\+, g\+\+, clang\+\+ on PATH"):
        make_learner(speed={"compile": True}).fit(make_task())


def test_a_compiled_network_trains_as_it_does_otherwise(
    make_learner: Callable[..., Any], make_task: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []

    def compile_without_a_compiler(network: nn.Module) -> None:
        compiled.append(network)
        network._compiled_call_impl = torch.compile(network._call_impl, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", compile_without_a_compiler)
    monkeypatch.setattr(speed_module, "check_compiler", lambda *_: None)
    losses = [
        make_learner(recipe={"max_iters": 2}, speed=speed).fit(make_task(str(speed)))["train_loss"]
        for speed in (None, {"compile": True})
    ]
    assert len(compiled) == 1 and losses[1] == pytest.approx(losses[0], rel=1e-5) and math.isfinite(losses[0])


def test_what_cannot_be_compiled_is_a_sentence() -> None:
    expected = pytest.raises(ConfigError, match="expected a network that torch.compile understands, got no graph")
    with expected, Speed(compile=True).algorithms(CPU, False):
        raise torch._dynamo.exc.TorchDynamoException("no graph")
