// Everything that the page says to the computer that served it.

const TRIES = 4;
const WAIT_MS = 800;

/** Trade the token behind the # for a cookie, and take it out of the address bar. */
export async function claim() {
  const token = location.hash.slice(1);
  if (!token) return; // loaded again: the cookie is there already
  const answer = await post('claim', JSON.stringify({token}));
  if (answer.ok) history.replaceState(null, '', location.pathname);
  else if (!(await fetch('job')).ok) throw new Error(await answer.text()); // a link opened twice here is no error
}

export async function job() {
  const answer = await fetch('job');
  if (answer.status === 403) throw new Error('open the link that kbit printed, or scan its code: each link works once');
  return json(answer);
}

/** Outputs of one block, as bytes, one output after the other. */
export async function sendOutputs(artifact, {set, from, to, outputs}) {
  await json(await post(`outputs/${artifact}/${set}/${from}/${to}`, new Blob(outputs.map((output) => output.data))));
}

/** Times and errors of one artifact -> the figures that the computer makes of it. */
export async function sendFacts(artifact, facts) {
  return json(await post(`artifact/${artifact}`, JSON.stringify(facts)));
}

/** The end -> the verdict. */
export async function finish(device) {
  return json(await post('finish', JSON.stringify(device)));
}

export function sayAlive() {
  fetch('alive', {method: 'POST'}).catch(() => {}); // the next real message will find out
}

async function json(answer) {
  if (!answer.ok) throw new Error(`the computer answered ${answer.status}: ${(await answer.text()).slice(0, 200)}`);
  return answer.json();
}

/** A phone leaves its network for a moment now and then: try again before giving up. */
async function post(path, body) {
  for (let tried = 1; ; tried++) {
    try {
      return await fetch(path, {method: 'POST', body});
    } catch (error) {
      if (tried === TRIES) throw new Error('the computer cannot be reached: is kbit still running, the phone still on its network?');
      await new Promise((resolve) => setTimeout(resolve, WAIT_MS * 2 ** tried));
    }
  }
}
