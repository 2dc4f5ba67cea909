// Recording with the camera or the microphone.
const TYPES = ["video/webm;codecs=vp8,opus", "video/webm", "video/mp4"];
const SOUND_TYPES = ["audio/webm;codecs=opus", "audio/webm", "audio/mp4"];

export class Recorder {
  // `level` is called with the level of the sound, 0 to 1, some times a second.
  static async start({ camera, level }) {
    const video = camera ? { width: { ideal: 640 }, height: { ideal: 480 } } : false;
    const media = await navigator.mediaDevices.getUserMedia({ audio: true, video });
    return new Recorder(media, camera, level);
  }

  constructor(media, camera, level) {
    this.media = media;
    const type = (camera ? TYPES : SOUND_TYPES).find((kind) => MediaRecorder.isTypeSupported(kind));
    this.recorder = new MediaRecorder(media, type ? { mimeType: type } : {});
    this.parts = [];
    this.recorder.ondataavailable = ({ data }) => this.parts.push(data);
    this.recorder.start(250);
    this.begun = performance.now();
    this.context = new AudioContext();
    const analyser = this.context.createAnalyser();
    this.context.createMediaStreamSource(media).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    this.meter = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, x) => sum + x * x, 0) / samples.length;
      level(Math.max(0, Math.min(1, 1 + Math.log10(power + 1e-9) / 6)));
    }, 100);
  }

  get seconds() {
    return (performance.now() - this.begun) / 1000;
  }

  // The recording, as a file.
  async stop() {
    const ended = new Promise((resolve) => (this.recorder.onstop = resolve));
    if (this.recorder.state !== "inactive") this.recorder.stop();
    else this.recorder.onstop?.();
    await ended;
    this.close();
    const type = this.recorder.mimeType;
    return new File(this.parts, `recording.${type.includes("mp4") ? "mp4" : "webm"}`, { type });
  }

  close() {
    clearInterval(this.meter);
    this.context.close();
    this.recorder.onstop = null;
    if (this.recorder.state !== "inactive") this.recorder.stop();
    for (const track of this.media.getTracks()) track.stop();
  }
}
