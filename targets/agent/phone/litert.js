// Artifacts for TFLite, through LiteRT.js. It needs a classic worker: its loader calls importScripts.

import {gpuAdapter} from './device.js';
import {TYPES, fromArtifact, toArtifact} from './tensor.js';

const ELEMENTS = {1: 'float32', 2: 'int32', 3: 'uint8', 4: 'int64', 6: 'bool', 7: 'int16', 9: 'int8', 11: 'float64'};

/** As open() of ort.js. */
export async function open(artifact, bytes, {runtimes, threads, accelerator, versions}) {
  let loaded = '';
  self.Module = { // the files lie beside the runtime, not beside this worker; without the second key threads hang
    locateFile: (name) => `${runtimes}/${loaded = name}`,
    mainScriptUrlOrBlob: `${runtimes}/litert_wasm_threaded_internal.js`,
  };
  const api = await import(`${runtimes}/litert.js`);
  const litert = await api.loadLiteRt(runtimes, {threads: threads > 1});
  if (accelerator === 'webgpu') litert.setWebGpuDevice(await (await gpuAdapter()).requestDevice());
  const run = accelerator === 'webgpu' ? await onGpu(api, litert, bytes) : await onCpu(litert, bytes, threads);
  return {
    version: versions.litert,
    variant: accelerator === 'webgpu' ? 'WebGPU' : /compat/.test(loaded) ? 'WebAssembly, no relaxed SIMD' : 'WebAssembly',
    prepare: (feeds) => artifact.inputs.map((spec) => toArtifact(feeds[spec.name], spec)),
    invoke: run,
    read: (outputs) => outputs.map((output, i) => fromArtifact(output, artifact.outputs[i])),
  };
}

/** Through the public classes, which take float32, int32 and uint8. */
async function onGpu(api, litert, bytes) {
  litert.liteRtWasm.checkTensorBufferCompatible = () => {}; // it refuses any model whose batch is free
  const model = await litert.loadAndCompile(bytes, {accelerator: 'webgpu'});
  return async (inputs) => {
    const tensors = inputs.map(({data, shape}) => new api.Tensor(data, shape));
    const results = await model.run(tensors);
    const outputs = [];
    for (const result of results) {
      const here = await result.moveTo('wasm');
      outputs.push({data: here.toTypedArray(), shape: Array.from(here.type.layout.dimensions)});
      here.delete();
    }
    tensors.forEach((tensor) => tensor.delete());
    return outputs;
  };
}

/** Through the C++ objects that the public classes wrap: they take every type, and models whose batch is free. */
async function onCpu(litert, bytes, threads) {
  const wasm = litert.liteRtWasm;
  const environment = litert.getDefaultEnvironment().liteRtEnvironment;
  const place = wasm._malloc(bytes.byteLength);
  wasm.HEAPU8.set(bytes, place);
  const model = wasm.loadModel(environment, place, bytes.byteLength);
  const compiled = await wasm.compileModel(environment, model, {accelerator: 'wasm', cpuOptions: {numThreads: threads}});

  const typeOf = (i, shape) => { // as the model has it, a free batch filled in
    const dimensions = new wasm.VectorInt32();
    shape.forEach((dimension) => dimensions.push_back(dimension));
    const layout = wasm.LiteRtLayout.create(dimensions);
    const named = model.getInputTensorType(0, i);
    const type = wasm.LiteRtRankedTensorType.create(named.elementType(), layout);
    [dimensions, layout, named].forEach((object) => object.delete());
    return type;
  };
  const write = ({data, shape}, i) => {
    const type = typeOf(i, shape);
    const buffer = wasm.LiteRtTensorBuffer.createManaged(environment, wasm.LiteRtTensorBufferType.HOST_MEMORY, type, data.byteLength);
    type.delete();
    const at = buffer.lock(wasm.LiteRtTensorBufferLockMode.WRITE);
    wasm.HEAPU8.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    buffer.unlock();
    return buffer;
  };
  const read = (buffer) => {
    const type = buffer.tensorType();
    const layout = type.layout();
    const dimensions = layout.dimensions();
    const shape = Array.from({length: dimensions.size()}, (_, i) => dimensions.get(i));
    const Type = TYPES[ELEMENTS[type.elementType().value]];
    const at = buffer.lock(wasm.LiteRtTensorBufferLockMode.READ);
    const data = new Type(wasm.HEAPU8.slice(at, at + buffer.packedSize()).buffer);
    buffer.unlock();
    [dimensions, layout, type, buffer].forEach((object) => object.delete());
    return {data, shape};
  };
  return async (inputs) => {
    const buffers = inputs.map(write);
    const results = await compiled.run(0, buffers);
    buffers.forEach((buffer) => buffer.delete());
    return results.map(read);
  };
}
