// Typed arrays with a shape, {data, shape}, and the way between ONNX order and what an artifact takes.
// The arithmetic is that of agent/runtimes.py: float32 at every step.

export const TYPES = {
  float32: Float32Array, float64: Float64Array, bool: Uint8Array,
  int8: Int8Array, int16: Int16Array, int32: Int32Array, int64: BigInt64Array,
  uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, uint64: BigUint64Array,
};

export const size = (shape) => shape.reduce((product, dimension) => product * dimension, 1);

/** Bytes -> tensors, one after the other, as the server packs them; `fields` is [{dtype, shape}] of one sample. */
export function unpack(buffer, fields, count) {
  let place = 0;
  return fields.map(({dtype, shape}) => {
    const Type = TYPES[dtype];
    const length = size(shape) * count * Type.BYTES_PER_ELEMENT;
    const data = new Type(buffer.slice(place, place + length));
    place += length;
    return {data, shape: [count, ...shape]};
  });
}

/** Rows start to stop - 1 of a tensor, as a view. */
export function rows({data, shape}, start, stop) {
  const row = size(shape.slice(1));
  return {data: data.subarray(start * row, stop * row), shape: [stop - start, ...shape.slice(1)]};
}

/** The last row again until there are `count`: for models of a fixed batch. */
export function padded({data, shape}, count) {
  const row = size(shape.slice(1));
  const out = new data.constructor(row * count);
  out.set(data);
  for (let i = shape[0]; i < count; i++) out.set(data.subarray(data.length - row), i * row);
  return {data: out, shape: [count, ...shape.slice(1)]};
}

export function cast({data, shape}, dtype) {
  const Type = TYPES[dtype];
  if (data instanceof Type) return {data, shape};
  const big = Type === BigInt64Array || Type === BigUint64Array;
  const wasBig = data instanceof BigInt64Array || data instanceof BigUint64Array;
  const out = new Type(data.length);
  for (let i = 0; i < data.length; i++) out[i] = big ? (wasBig ? data[i] : BigInt(Math.trunc(data[i]))) : Number(data[i]);
  return {data: out, shape};
}

export function transpose({data, shape}, axes) {
  const strides = shape.map((_, axis) => size(shape.slice(axis + 1)));
  const to = axes.map((axis) => shape[axis]);
  const steps = axes.map((axis) => strides[axis]);
  const out = new data.constructor(data.length);
  const index = new Array(to.length).fill(0);
  for (let i = 0, from = 0; i < out.length; i++) {
    out[i] = data[from];
    for (let axis = to.length - 1; axis >= 0; axis--) {
      from += steps[axis];
      if (++index[axis] < to[axis]) break;
      from -= steps[axis] * to[axis];
      index[axis] = 0;
    }
  }
  return {data: out, shape: to};
}

/** Round half to even, as numpy.rint and the runtimes do. */
export function rint(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest < 0.5 || (rest === 0.5 && floor % 2 === 0) ? floor : floor + 1;
}

/** A model-ready tensor in ONNX order -> as the artifact takes it: permuted, quantized, of its dtype. */
export function toArtifact(tensor, spec) {
  const {data, shape} = spec.permutation ? transpose(tensor, spec.permutation) : tensor;
  if (!spec.scale) return cast({data, shape}, spec.dtype);
  const out = new TYPES[spec.dtype](data.length);
  const scale = Math.fround(spec.scale);
  const half = 2 ** (8 * out.BYTES_PER_ELEMENT - 1);
  for (let i = 0; i < data.length; i++) {
    out[i] = Math.min(half - 1, Math.max(-half, rint(Math.fround(data[i] / scale)) + spec.zero_point));
  }
  return {data: out, shape};
}

/** What the artifact gave -> ONNX order, dequantized. */
export function fromArtifact(tensor, spec) {
  let {data, shape} = tensor;
  if (spec.scale) {
    const scale = Math.fround(spec.scale);
    const out = new Float32Array(data.length);
    for (let i = 0; i < data.length; i++) out[i] = (data[i] - spec.zero_point) * scale;
    data = out;
  }
  if (!spec.permutation) return {data, shape};
  const back = spec.permutation.map((_, axis) => spec.permutation.indexOf(axis));
  return transpose({data, shape}, back);
}
