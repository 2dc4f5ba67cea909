"""Face detection, tracking and alignment in a video, and the choice of the main person.

`FaceCollector` does all of it; the rest is for detectors of your own. Nothing heavy is loaded
before the first picture is processed.
"""

from avser.media.faces.collect import DETECT_HEIGHT as DETECT_HEIGHT
from avser.media.faces.collect import FACES_PER_STEP as FACES_PER_STEP
from avser.media.faces.collect import FaceCollector as FaceCollector
from avser.media.faces.collect import Faces as Faces
from avser.media.faces.collect import FaceTrack as FaceTrack
from avser.media.faces.collect import align as align
from avser.media.faces.collect import sample_times as sample_times
from avser.media.faces.detect import MtcnnDetector as MtcnnDetector
from avser.media.faces.detect import YuNetDetector as YuNetDetector
from avser.media.faces.detect import detector_settings as detector_settings
from avser.media.faces.detection import Detection as Detection
from avser.media.faces.detection import FaceDetector as FaceDetector
from avser.media.faces.detection import LocalFaceDetector as LocalFaceDetector
from avser.media.faces.follow import VideoFaceDetector as VideoFaceDetector
from avser.media.faces.motion import SoundLevels as SoundLevels
from avser.media.faces.tracker import Tracker as Tracker
