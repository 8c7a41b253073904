// One artifact in a worker of its own, under a watchdog: an error, a crash and silence all end as a line of text.

/**
 * `hear` gets every block and stage; resolves to the worker's facts, or to {errors: [line]}.
 * limit_s: silence for so long ends the worker.
 */
export function runArtifact(artifact, job, hear) {
  return new Promise((resolve) => {
    const worker = new Worker('worker.js');
    let [stage, timer] = ['starting', 0];
    const end = (facts) => {
      clearTimeout(timer);
      worker.terminate();
      resolve(facts);
    };
    const fail = (line) => end({errors: [line]});
    const wind = () => {
      clearTimeout(timer);
      timer = setTimeout(() => fail(`no sign of life for ${job.limit_s} s while ${stage}: stopped`), 1000 * job.limit_s);
    };
    worker.onerror = (event) => fail(event.message || 'the worker could not start');
    worker.onmessageerror = () => fail('a message of the worker could not be read');
    worker.onmessage = ({data}) => {
      wind();
      if (data.kind === 'error') return fail(data.message);
      if (data.kind === 'done') return end({errors: [], ...data.facts});
      if (data.kind === 'stage') stage = STAGES[data.stage];
      hear(data);
    };
    wind();
    worker.postMessage({artifact, job});
  });
}

export const STAGES = {
  loading: 'loading the runtime and the model',
  golden: 'running the golden samples',
  evaluation: 'running the evaluation samples',
  timing: 'measuring its time',
};
