// Artifacts for ONNX Runtime, through onnxruntime-web.

import {gpuAdapter} from './device.js';
import {fromArtifact, toArtifact} from './tensor.js';

/** A session over the file's bytes: prepare(feeds) -> inputs, invoke(inputs) -> outputs, both in the artifact's terms. */
export async function open(artifact, bytes, {runtimes, threads, accelerator}) {
  const gpu = accelerator === 'webgpu';
  if (gpu) await gpuAdapter(); // said in one line where there is none
  const ort = await import(`${runtimes}/ort.${gpu ? 'webgpu' : 'wasm'}.min.mjs`);
  ort.env.logLevel = 'error';
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = `${runtimes}/`;
  const session = await ort.InferenceSession.create(bytes, {executionProviders: [accelerator], logSeverityLevel: 3});
  const names = artifact.outputs.map((spec) => spec.name);
  return {
    version: ort.env.versions.web,
    variant: gpu ? 'WebGPU' : 'WebAssembly',
    prepare: (feeds) => Object.fromEntries(artifact.inputs.map((spec) => {
      const {data, shape} = toArtifact(feeds[spec.name], spec);
      return [spec.name, new ort.Tensor(spec.dtype, data, shape)];
    })),
    invoke: async (inputs) => {
      const results = await session.run(inputs);
      return names.map((name) => ({data: results[name].data, shape: [...results[name].dims]}));
    },
    read: (outputs) => outputs.map((output, i) => fromArtifact(output, artifact.outputs[i])),
  };
}
