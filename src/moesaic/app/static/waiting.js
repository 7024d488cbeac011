// Going on after the server was busy or gone: ask again, later each time, and say so meanwhile.

import { Lost, Refused } from "./api.js";

const FIRST = 1;
const LONGEST = 15; // seconds

export function pause(seconds, signal = null) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(new DOMException("cancelled", "AbortError"));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, 1000 * seconds);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}

/**
 * Do `action` until it is answered. `waits({busy, seconds})` is called each second of a wait, and `waits(null)` at its
 * end. Refusals other than "busy" are thrown on.
 */
export async function persist(action, { signal = null, waits = () => {} } = {}) {
  let delay = FIRST;
  for (;;) {
    try {
      const answer = await action();
      waits(null);
      return answer;
    } catch (cause) {
      const busy = cause instanceof Refused && cause.busy;
      if (!busy && !(cause instanceof Lost)) {
        waits(null);
        throw cause;
      }
      const seconds = Math.ceil(busy && cause.wait ? cause.wait : delay);
      delay = Math.min(2 * delay, LONGEST);
      for (let left = seconds; left > 0; left -= 1) {
        waits({ busy, seconds: left });
        await pause(1, signal);
      }
    }
  }
}
