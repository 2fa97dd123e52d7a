// Protobuf, as far as the contract uses it. Messages are plain objects; which fields they have, /schema.json says.
//
//   const wire = new Wire(schema);
//   socket.send(wire.encode("ClientMessage", {control: {parameter: "gain", value: 0.5}}));
//   wire.decode("ServerMessage", bytes).audio.position
//
// Integers are numbers where those are exact, else BigInts. `bytes` are views into what was decoded.

const VARINT = 0, FIXED64 = 1, LENGTH = 2, FIXED32 = 5;
const WIRE_TYPE = {bool: VARINT, int32: VARINT, int64: VARINT, uint32: VARINT, uint64: VARINT, double: FIXED64};
const ZERO = {bool: false, int32: 0, int64: 0, uint32: 0, uint64: 0, double: 0, string: "", bytes: new Uint8Array(0)};
const text = {encoder: new TextEncoder(), decoder: new TextDecoder("utf-8", {fatal: true})};

export class Wire {
  constructor(schema) {
    this.messages = {};
    for (const [name, fields] of Object.entries(schema)) {
      const list = Object.entries(fields).map(([number, field]) => ({...field, number: Number(number)}));
      this.messages[name] = {list, byNumber: new Map(list.map((field) => [field.number, field]))};
    }
  }

  encode(type, message) {
    const writer = new Writer();
    this.#write(writer, type, message);
    return writer.bytes();
  }

  decode(type, bytes) {
    return this.#read(new Reader(bytes), type);
  }

  #write(writer, type, message) {
    const known = this.messages[type].list;
    const unknown = Object.keys(message).filter((name) => !known.some((field) => field.name === name));
    if (unknown.length) throw new TypeError(`${type} has no field ${unknown}`);
    for (const field of known) {
      const value = message[field.name];
      if (value === undefined || value === null) continue;
      if (field.map) {
        for (const [key, each] of Object.entries(value)) this.#writeField(writer, field, {key, value: each});
      } else if (!field.repeated) {
        if (field.optional || !isZero(value)) this.#writeField(writer, field, value);
      } else if (WIRE_TYPE[field.type] === undefined) {
        for (const each of value) this.#writeField(writer, field, each);
      } else if (value.length) {
        const packed = new Writer();
        for (const each of value) packed.scalar(field.type, each);
        writer.key(field.number, LENGTH);
        writer.delimited(packed.bytes());
      }
    }
  }

  #writeField(writer, field, value) {
    const wireType = WIRE_TYPE[field.type] ?? LENGTH;
    writer.key(field.number, wireType);
    if (wireType !== LENGTH) writer.scalar(field.type, value);
    else if (field.type === "string") writer.delimited(text.encoder.encode(value));
    else if (field.type === "bytes") writer.delimited(value);
    else writer.delimited(this.encode(field.type, value));
  }

  #read(reader, type) {
    const {list, byNumber} = this.messages[type];
    const message = {};
    for (const field of list) {
      if (field.repeated) message[field.name] = [];
      else if (field.map) message[field.name] = {};
      else if (!field.optional) message[field.name] = ZERO[field.type];
    }
    while (reader.more) {
      const key = Number(reader.varint()), wireType = key & 7;
      const field = byNumber.get(key >>> 3);
      if (field === undefined) {
        reader.skip(wireType);
        continue;
      }
      const scalar = WIRE_TYPE[field.type];
      if (field.repeated && scalar !== undefined && wireType === LENGTH) {
        const packed = new Reader(reader.delimited());
        while (packed.more) message[field.name].push(packed.scalar(field.type));
        continue;
      }
      if (wireType !== (scalar ?? LENGTH)) throw new RangeError(`${type}.${field.name} is of another type`);
      const value = scalar !== undefined ? reader.scalar(field.type) : this.#readDelimited(reader, field);
      if (field.map) message[field.name][value.key] = value.value;
      else if (field.repeated) message[field.name].push(value);
      else message[field.name] = value;
    }
    return message;
  }

  #readDelimited(reader, field) {
    const bytes = reader.delimited();
    if (field.type === "bytes") return bytes;
    return field.type === "string" ? text.decoder.decode(bytes) : this.#read(new Reader(bytes), field.type);
  }
}

function isZero(value) {
  return value === 0 || value === 0n || value === "" || value === false || value.length === 0;
}

class Writer {
  #parts = [];
  #small = [];

  key(number, wireType) {
    this.#varint(BigInt((number << 3) | wireType));
  }

  scalar(type, value) {
    if (type === "double") {
      const eight = new DataView(new ArrayBuffer(8));
      eight.setFloat64(0, value, true);
      this.#small.push(...new Uint8Array(eight.buffer));
    } else {
      this.#varint(BigInt.asUintN(64, BigInt(value)));
    }
  }

  delimited(bytes) {
    this.#varint(BigInt(bytes.length));
    this.#flush();
    this.#parts.push(bytes);
  }

  bytes() {
    this.#flush();
    const all = new Uint8Array(this.#parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of this.#parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }

  #varint(value) {
    while (value > 127n) {
      this.#small.push(Number(value & 127n) | 128);
      value >>= 7n;
    }
    this.#small.push(Number(value));
  }

  #flush() {
    if (this.#small.length) this.#parts.push(Uint8Array.from(this.#small));
    this.#small = [];
  }
}

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  get more() {
    return this.at < this.bytes.length;
  }

  varint() {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      if (!this.more) break;
      const byte = this.bytes[this.at++];
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return BigInt.asUintN(64, value);
    }
    throw new RangeError("a number without end");
  }

  scalar(type) {
    if (type === "double") {
      const eight = this.#take(8);
      return new DataView(eight.buffer, eight.byteOffset, 8).getFloat64(0, true);
    }
    const value = this.varint();
    if (type === "bool") return value !== 0n;
    const exact = type === "int64" ? BigInt.asIntN(64, value) : type === "int32" ? BigInt.asIntN(32, value) : value;
    const number = Number(exact);
    return Number.isSafeInteger(number) ? number : exact;
  }

  delimited() {
    return this.#take(Number(this.varint()));
  }

  skip(wireType) {
    if (wireType === VARINT) this.varint();
    else if (wireType === FIXED64) this.#take(8);
    else if (wireType === LENGTH) this.delimited();
    else if (wireType === FIXED32) this.#take(4);
    else throw new RangeError(`a field of wire type ${wireType}`);
  }

  #take(count) {
    if (this.at + count > this.bytes.length) throw new RangeError("a message that is cut short");
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }
}
