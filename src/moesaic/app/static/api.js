// The server's calls. Whatever goes wrong becomes a sentence that says what to do.

/** The server answered, and said no; `wait` are the seconds after which to ask again, if it told them. */
export class Refused extends Error {
  constructor(sentence, status, wait = null) {
    super(sentence);
    this.status = status;
    this.wait = wait;
  }

  get gone() {
    return this.status === 404 || this.status === 410;
  }

  get busy() {
    return this.status === 429 || this.status === 503;
  }
}

/** There was no answer at all. */
export class Lost extends Error {
  constructor() {
    super("The server does not answer.");
  }
}

const SENTENCES = {
  400: "The server could not make sense of that. Reload the page and try again.",
  404: "That picture is no longer here. Send it again.",
  410: "That picture has been deleted, as pictures are kept for a while only. Send it again.",
  413: "That file is too large for this server. Make it smaller and try again.",
  415: "That kind of file cannot be read here. Save it as JPEG or PNG and try again.",
  429: "Many pictures are being worked on just now. Try again in a little while.",
  503: "The server is busy. Try again in a little while.",
};

function refusal(status, text, retryAfter) {
  let sentence = null;
  try {
    sentence = JSON.parse(text).error;
  } catch {
    // not JSON: something between the page and the server answered
  }
  const wait = Number.parseFloat(retryAfter ?? "");
  const usual = SENTENCES[status] ?? "Something went wrong on the server. Try again, or try another picture.";
  return new Refused(typeof sentence === "string" ? sentence : usual, status, Number.isFinite(wait) ? wait : null);
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", ...options });
  } catch (cause) {
    if (cause.name === "AbortError") throw cause;
    throw new Lost();
  }
  if (!answer.ok) throw refusal(answer.status, await answer.text().catch(() => ""), answer.headers.get("Retry-After"));
  return answer;
}

const address = (id, rest = "") => `/api/jobs/${encodeURIComponent(id)}${rest}`;

export const about = async () => (await ask("/api/about")).json();
export const job = async (id) => (await ask(address(id))).json();
export const remove = async (id) => void (await ask(address(id), { method: "DELETE" }));
export const kernels = async (id, signal) => (await ask(address(id, "/kernels"), { signal })).arrayBuffer();
export const download = (id, metadata) => address(id, `/result?metadata=${metadata ? 1 : 0}`);
export const view = (id, which) => address(id, `/view/${which}`);
export const tile = (id, region, width, height) =>
  address(id, `/tile?${new URLSearchParams({ ...region, width, height })}`);

/** A view as a Blob; waits while the server is still making it. */
export async function viewed(id, which, signal) {
  for (;;) {
    const answer = await ask(view(id, which), { signal });
    if (answer.status !== 202) return answer.blob();
    await new Promise((resolve) => setTimeout(resolve, 700));
    signal?.throwIfAborted();
  }
}

/** Any file of this server as a File, such as the sample picture. */
export async function fetched(path, name) {
  const blob = await (await ask(path)).blob();
  return new File([blob], name, { type: blob.type });
}

/**
 * Begin a job. `source` is a File, or {job, which} for a picture that the server has already.
 * XMLHttpRequest, as fetch tells no progress of what it sends.
 */
export function begin(verb, options, source, { sent = () => {}, signal = null } = {}) {
  const form = new FormData();
  form.append("verb", verb);
  form.append("options", JSON.stringify(options));
  if (source instanceof Blob) form.append("picture", source, source.name);
  else form.append("from", JSON.stringify(source));
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    signal?.addEventListener("abort", stop, { once: true });
    request.open("POST", "/api/jobs");
    request.upload.onprogress = (event) => event.lengthComputable && sent(event.loaded / event.total);
    request.onload = () => {
      if (request.status === 201) resolve(JSON.parse(request.responseText));
      else reject(refusal(request.status, request.responseText, request.getResponseHeader("Retry-After")));
    };
    request.onerror = () => reject(new Lost());
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    request.onloadend = () => signal?.removeEventListener("abort", stop);
    if (signal?.aborted) reject(new DOMException("cancelled", "AbortError"));
    else request.send(form);
  });
}
