// Collects the microphone's blocks of 128 samples into blocks of 512 (32 ms).
class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(512);
    this.filled = 0;
  }

  process([input]) {
    if (input.length) {
      this.block.set(input[0], this.filled);
      this.filled += input[0].length;
      if (this.filled >= this.block.length) {
        this.port.postMessage(this.block.slice());
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("microphone", Microphone);
