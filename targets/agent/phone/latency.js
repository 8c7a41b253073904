// Time of one run in this browser. Browser latency: it says little about the same file in a native runtime.

const WARM_MS = 1000;
const [FEWEST, MOST] = [20, 1000];
const MOST_MS = 30000; // for models that take seconds a run: fewer runs, and no percentile that they do not support

/** The smallest step of performance.now(), ms: 0.005 where the page is isolated, 0.1 elsewhere, more in some browsers. */
export function timerStep() {
  let smallest = Infinity;
  for (let i = 0; i < 20; i++) {
    const start = performance.now();
    let now = start;
    while (now === start) now = performance.now();
    smallest = Math.min(smallest, now - start);
  }
  return smallest;
}

/** Milliseconds of each run for `seconds` after a warm-up; of runs shorter than 20 timer steps, the mean of as many as fill that time. */
export async function measure(run, step, seconds, tell) {
  const wanted = 1000 * seconds;
  let runs = 0;
  const start = performance.now();
  const spent = () => performance.now() - start;
  while (runs < 3 || spent() < Math.min(WARM_MS, wanted)) {
    await run();
    runs++;
    if (spent() > MOST_MS / 2) break;
  }
  const together = Math.max(1, Math.ceil((20 * step) / (spent() / runs)));
  const times = [];
  const begin = performance.now();
  for (let told = begin; times.length < MOST;) {
    const from = performance.now();
    for (let i = 0; i < together; i++) await run();
    const now = performance.now();
    times.push((now - from) / together);
    if (now - begin > (times.length < FEWEST ? MOST_MS : wanted)) break;
    if (now - told > 250) {
      told = now;
      tell(Math.min(1, (now - begin) / wanted));
    }
  }
  return times;
}
