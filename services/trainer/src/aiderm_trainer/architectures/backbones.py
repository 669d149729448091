"""Describes the backbones: input scaling, the depths that can be pooled, and the first layer that is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from keras import applications as nets

from aiderm_trainer.architectures import efficientnet_lite

# How pixels 0..255 are scaled for a network. lite: (pixel - 127) / 128; signed: to [-1, 1]; bytes: not at all (the network scales
# them itself); caffe: BGR minus ImageNet's mean; torch: minus ImageNet's mean, in standard deviations; torch_bytes: the same, for
# a network that divides by 255 once more.
Scaling = Literal["lite", "signed", "bytes", "caffe", "torch", "torch_bytes"]


@dataclass(frozen=True)
class Backbone:
    """How a pretrained network is used.

    Attributes:
        build: its constructor.
        millions: of parameters, up to the deepest map that is pooled by default.
        scaling: of the input that it was trained on.
        depths: layers whose maps can be pooled for the head, from shallow to deep; the network ends at the deepest pooled one.
        pooled: how many of these are pooled by default, from the deepest up.
        freeze_until: the first layer that is trained by default; about the last third of the layers is trained.
        novelty: layer whose pretrained map tells how unusual an image is; a layer before ``freeze_until`` costs nothing extra.
        size: default side of the input. Backbones for larger images also use the size of common lesion data sets.
    """

    build: Callable[..., Any]
    millions: float
    scaling: Scaling
    depths: tuple[str, ...]
    freeze_until: str
    novelty: str
    pooled: int = 2
    size: int = 224

    @property
    def taps(self) -> tuple[str, ...]:
        """The layers that are pooled by default."""
        return self.depths[-self.pooled :]


def _resnet(build: Callable[..., Any], millions: float, third: int, fourth: int, trained: int) -> Backbone:
    """``third`` and ``fourth``: blocks of those stages; the fourth is trained from block ``trained`` on."""
    depths = (f"conv3_block{third}_out", f"conv4_block{fourth}_out", "conv5_block3_out")
    return Backbone(build, millions, "caffe", depths, f"conv4_block{trained}_1_conv", depths[0])


def _resnet_v2(build: Callable[..., Any], millions: float, third: int, trained: int) -> Backbone:
    depths = ("conv4_block1_preact_relu", "conv5_block1_preact_relu", "post_relu")  # the ends of stages, normalised
    return Backbone(build, millions, "signed", depths, f"conv4_block{trained}_preact_bn", f"conv3_block{third}_out")


def _efficientnet(build: Callable[..., Any], millions: float, third: str, fifth: str, fourth: str) -> Backbone:
    depths = (f"block3{third}_add", f"block5{fifth}_add", "top_activation")
    return Backbone(build, millions, "torch_bytes", depths, "block6a_expand_conv", f"block4{fourth}_add")


def _efficientnet_v2(
    build: Callable[..., Any], millions: float, third: str, fifth: str, fourth: str, freeze_until: str
) -> Backbone:
    depths = (f"block3{third}_add", f"block5{fifth}_add", "top_activation")
    return Backbone(build, millions, "bytes", depths, freeze_until, f"block4{fourth}_add")


def _efficientnet_lite(name: str, millions: float, third: int, fourth: int, fifth: int) -> Backbone:
    """``third``, ``fourth``, ``fifth``: the last block of those stages; the third is trained from its first block on."""
    depths = (f"block_{third}_add", f"block_{fifth}_add", "top_relu")
    freeze_until = f"block_{third - (fourth - third) + 2}_expand"
    return Backbone(partial(efficientnet_lite.build, name), millions, "lite", depths, freeze_until, f"block_{fourth}_add")


def _densenet(build: Callable[..., Any], millions: float, freeze_until: str) -> Backbone:
    return Backbone(build, millions, "torch", ("pool3_relu", "pool4_relu", "relu"), freeze_until, "pool3_relu")


def _convnext(build: Callable[..., Any], millions: float, name: str, third: int, trained: int) -> Backbone:
    # Sums at the ends of stages are not layers; the normalised map inside a stage's last block is the next best.
    depths = (f"{name}_stage_1_block_2_layernorm", f"{name}_stage_2_block_{third}_layernorm", "layer_normalization")
    freeze_until, novelty = f"{name}_stage_2_block_{trained}_depthwise_conv", f"{name}_stage_2_block_1_layernorm"
    return Backbone(build, millions, "bytes", depths, freeze_until, novelty)


BACKBONES = {
    "mobilenet": Backbone(
        nets.MobileNet, 3.2, "signed", ("conv_pw_5_relu", "conv_pw_11_relu", "conv_pw_13_relu"), "conv_dw_9", "conv_pw_6_relu"
    ),
    # A probe reached AUC 0.895 on pooled maps of several depths, and 0.862 on the last map alone. Everyday photographs are told
    # from lesions at AUROC 0.9997 by block_12, at 0.996 by block_6.
    "mobilenet_v2": Backbone(
        nets.MobileNetV2,
        2.3,
        "signed",
        ("block_5_add", "block_9_add", "block_12_add", "block_15_add", "out_relu"),
        "block_6_expand",
        "block_12_add",
        pooled=3,
    ),
    "mobilenet_v3_small": Backbone(
        nets.MobileNetV3Small,
        0.9,
        "bytes",
        ("expanded_conv_2_add", "expanded_conv_7_add", "activation_17"),
        "expanded_conv_7_expand",
        "expanded_conv_5_add",
    ),
    "mobilenet_v3_large": Backbone(
        nets.MobileNetV3Large,
        3.0,
        "bytes",
        ("expanded_conv_5_add", "expanded_conv_11_add", "activation_19"),
        "expanded_conv_11_expand",
        "expanded_conv_8_add",
    ),
    "resnet50": _resnet(nets.ResNet50, 23.6, 4, 6, 4),
    "resnet101": _resnet(nets.ResNet101, 42.7, 4, 23, 15),
    "resnet152": _resnet(nets.ResNet152, 58.4, 8, 36, 22),
    # Ends after its fourth stage: the fifth has three fifths of the parameters and is specific to ImageNet's 1,000 classes.
    "resnet50_v2": Backbone(
        nets.ResNet50V2,
        8.6,
        "signed",
        ("conv4_block1_preact_relu", "conv5_block1_preact_relu"),
        "conv4_block1_preact_bn",
        "conv3_block4_out",
        pooled=1,
    ),
    "resnet101_v2": _resnet_v2(nets.ResNet101V2, 42.6, 4, 15),
    "resnet152_v2": _resnet_v2(nets.ResNet152V2, 58.3, 8, 22),
    "efficientnet_b0": _efficientnet(nets.EfficientNetB0, 4.1, "b", "c", "c"),
    "efficientnet_b1": _efficientnet(nets.EfficientNetB1, 6.6, "c", "d", "d"),
    "efficientnet_b2": _efficientnet(nets.EfficientNetB2, 7.8, "c", "d", "d"),
    "efficientnet_b3": _efficientnet(nets.EfficientNetB3, 10.8, "c", "e", "e"),
    "efficientnet_v2_b0": _efficientnet_v2(nets.EfficientNetV2B0, 5.9, "b", "e", "c", "block5a_expand_conv"),
    "efficientnet_v2_b1": _efficientnet_v2(nets.EfficientNetV2B1, 6.9, "c", "f", "d", "block6a_expand_conv"),
    "efficientnet_v2_b2": _efficientnet_v2(nets.EfficientNetV2B2, 8.8, "c", "f", "d", "block6a_expand_conv"),
    "efficientnet_v2_b3": _efficientnet_v2(nets.EfficientNetV2B3, 12.9, "c", "g", "e", "block6a_expand_conv"),
    "efficientnet_lite0": _efficientnet_lite("efficientnet_lite0", 3.4, 4, 7, 10),
    "efficientnet_lite1": _efficientnet_lite("efficientnet_lite1", 4.1, 6, 10, 14),
    "efficientnet_lite2": _efficientnet_lite("efficientnet_lite2", 4.8, 6, 10, 14),
    "densenet121": _densenet(nets.DenseNet121, 7.0, "conv4_block21_0_bn"),
    "densenet169": _densenet(nets.DenseNet169, 12.6, "conv5_block4_0_bn"),
    "densenet201": _densenet(nets.DenseNet201, 18.3, "conv4_block47_0_bn"),
    "inception_v3": Backbone(nets.InceptionV3, 21.8, "signed", ("mixed2", "mixed7", "mixed10"), "conv2d_64", "mixed5"),
    "inception_resnet_v2": Backbone(
        nets.InceptionResNetV2, 54.3, "signed", ("block35_10_ac", "block17_20_ac", "conv_7b_ac"), "conv2d_137", "block17_5_ac"
    ),
    "xception": Backbone(nets.Xception, 20.9, "signed", ("add_2", "add_10", "block14_sepconv2_act"), "block10_sepconv1", "add_4"),
    "convnext_tiny": _convnext(nets.ConvNeXtTiny, 27.8, "convnext_tiny", 8, 6),
    "convnext_small": _convnext(nets.ConvNeXtSmall, 49.5, "convnext_small", 26, 18),
    "nasnet_mobile": Backbone(
        nets.NASNetMobile,
        4.3,
        "signed",
        ("normal_concat_3", "normal_concat_8", "activation_187"),
        "adjust_conv_projection_8",
        "normal_concat_6",
    ),
    "vgg16": Backbone(nets.VGG16, 14.7, "caffe", ("block3_pool", "block4_pool", "block5_pool"), "block5_conv1", "block4_pool"),
    "vgg19": Backbone(nets.VGG19, 20.0, "caffe", ("block3_pool", "block4_pool", "block5_pool"), "block5_conv1", "block4_pool"),
}
