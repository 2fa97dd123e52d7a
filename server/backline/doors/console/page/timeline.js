// The audio thread. What is captured goes out in blocks, each with its position; what comes back for position p is
// played at p + latency: both count the same samples, so that the latency is exactly what it is said to be.

const RING = 1 << 19; // samples of each channel that are kept: ten seconds at 48 kHz
const REPORT_SECONDS = 0.1;

class Ring {
  // Interleaved samples by their position; `end` is where the newest end.
  constructor(channels) {
    this.channels = channels;
    this.samples = new Float32Array(RING * channels);
    this.begin = this.end = 0;
  }

  // Writes at `position`, and returns how many samples were left out before it.
  write(position, samples) {
    const count = samples.length / this.channels;
    const missing = Math.max(0, position - this.end);
    for (let at = Math.max(this.end, position - RING); at < position; at++) this.#put(at, null, 0);
    for (let index = 0; index < count; index++) this.#put(position + index, samples, index * this.channels);
    this.end = Math.max(this.end, position + count);
    this.begin = Math.max(this.begin, this.end - RING);
    return missing;
  }

  at(position, channel) {
    if (position < this.begin || position >= this.end) return 0;
    return this.samples[(position % RING) * this.channels + Math.min(channel, this.channels - 1)];
  }

  #put(position, samples, index) {
    const place = (position % RING) * this.channels;
    for (let channel = 0; channel < this.channels; channel++) {
      this.samples[place + channel] = samples === null ? 0 : samples[index + channel];
    }
  }
}

class Timeline extends AudioWorkletProcessor {
  constructor({processorOptions: {block, ports, latency, dry}}) {
    super();
    this.latency = this.wanted = latency;
    this.position = 0; // of the next captured sample
    this.block = block;
    this.filling = new Float32Array(2 * block);
    this.own = new Ring(2);
    this.ports = ports.map((channels) => new Ring(channels));
    this.heard = ports.map(() => 1);
    this.dry = dry;
    this.stream = null;
    this.running = true;
    this.counts = {dropouts: 0, missing: 0};
    this.short = false; // the last block ran out
    this.peaks = {input: 0, output: 0};
    this.reported = 0;
    this.port.onmessage = ({data}) => this.#told(data);
  }

  #told(message) {
    if (message.stream) {
      this.stream = message.stream;
      this.stream.onmessage = ({data}) => this.#arrived(data);
    }
    if (message.latency !== undefined) this.wanted = message.latency;
    if (message.dry !== undefined) this.dry = message.dry;
    if (message.heard) this.heard = message.heard;
    if (message.stop) this.running = false;
  }

  #arrived({port, position, samples}) {
    const missing = this.ports[port].write(position, samples);
    if (missing) {
      this.counts.dropouts += 1;
      this.counts.missing += missing;
    }
  }

  process([input], [output]) {
    const count = output[0].length;
    const [left, right] = [input[0] ?? new Float32Array(count), input[1] ?? input[0] ?? new Float32Array(count)];
    this.#capture(left, right);
    this.#play(output, count);
    this.position += count;
    if (this.position - this.reported >= REPORT_SECONDS * sampleRate) this.#report();
    return this.running;
  }

  #capture(left, right) {
    const both = new Float32Array(2 * left.length);
    for (let index = 0; index < left.length; index++) {
      both[2 * index] = left[index];
      both[2 * index + 1] = right[index];
      this.peaks.input = Math.max(this.peaks.input, Math.abs(left[index]), Math.abs(right[index]));
    }
    this.own.write(this.position, both);
    for (let done = 0; done < both.length; ) {
      const place = (2 * this.position + done) % this.filling.length;
      const some = Math.min(both.length - done, this.filling.length - place);
      this.filling.set(both.subarray(done, done + some), place);
      done += some;
      if (place + some === this.filling.length) this.#send(this.position + done / 2 - this.block);
    }
  }

  #send(position) {
    const samples = this.filling;
    this.stream?.postMessage({position, samples}, [samples.buffer]);
    this.filling = new Float32Array(2 * this.block);
  }

  #play(output, count) {
    const start = this.position - this.latency;
    const ready = Math.max(0, Math.min(count, Math.min(...this.ports.map((ring) => ring.end)) - start));
    const short = start >= 0 && ready < count;
    if (short) {
      this.counts.dropouts += this.short ? 0 : 1;
      this.counts.missing += count - ready;
    }
    const moved = this.wanted - this.latency;
    for (let channel = 0; channel < output.length; channel++) {
      for (let index = 0; index < count; index++) {
        let sample = this.#mixed(start + index, channel);
        if (moved) { // the later place fades in over this block
          const share = (index + 1) / count;
          sample = (1 - share) * sample + share * this.#mixed(start - moved + index, channel);
        }
        if (short) sample *= Math.max(0, 1 - (index + 1) / Math.max(1, ready)); // what is there fades out
        else if (this.short) sample *= (index + 1) / count; // and in again
        if (this.dry) sample += this.own.at(start + index, channel);
        output[channel][index] = sample;
        this.peaks.output = Math.max(this.peaks.output, Math.abs(sample));
      }
    }
    this.short = short;
    this.latency = this.wanted;
  }

  #mixed(position, channel) {
    let sum = 0;
    for (let port = 0; port < this.ports.length; port++) {
      if (this.heard[port]) sum += this.ports[port].at(position, channel);
    }
    return sum;
  }

  #report() {
    this.reported = this.position;
    const end = Math.min(...this.ports.map((ring) => ring.end));
    const ahead = (end - (this.position - this.latency)) / sampleRate;
    this.port.postMessage({...this.counts, ...this.peaks, ahead, seconds: this.position / sampleRate});
    this.peaks = {input: 0, output: 0};
  }
}

registerProcessor("backline-timeline", Timeline);
