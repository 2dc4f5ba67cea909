"""The faces in a video: found, followed from frame to frame, cut out alike, chosen.

`FaceCollector` is the whole of it; the rest is for those who bring a detector of their own.
Nothing heavy is loaded before the first picture is looked at.
"""

from avser.media.faces.collect import DETECT_HEIGHT as DETECT_HEIGHT
from avser.media.faces.collect import FACES_PER_STEP as FACES_PER_STEP
from avser.media.faces.collect import FaceCollector as FaceCollector
from avser.media.faces.collect import sample_times as sample_times
from avser.media.faces.crop import align as align
from avser.media.faces.detect import Detection as Detection
from avser.media.faces.detect import FaceDetector as FaceDetector
from avser.media.faces.detect import MtcnnDetector as MtcnnDetector
from avser.media.faces.detect import YuNetDetector as YuNetDetector
from avser.media.faces.detect import detector_settings as detector_settings
from avser.media.faces.tracker import Tracker as Tracker
from avser.media.faces.tracks import Faces as Faces
from avser.media.faces.tracks import FaceTrack as FaceTrack
