"""Image networks over a clip's spectrogram."""

from avser.models.encoders.timm_audio import TimmAudioEncoder
from avser.models.frontends.logmel import LogMel
from avser.models.frontends.two_channel import TwoChannelSpectrogram

# no ResNet: timm begins its residual branches at zero, and so their gradients are zero as well
AUDIO = {
    "timm": lambda: TimmAudioEncoder(
        frontend=TwoChannelSpectrogram(), backbone="test_efficientnet", clip_s=1.5, size=(64, 64)
    ),
    "timm vit": lambda: TimmAudioEncoder(
        frontend=LogMel(bins=32, hop=512), backbone="test_vit", clip_s=1.0, size=(32, 48)
    ),
}
