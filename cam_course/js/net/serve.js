// A worker's end of the line: one question after the other. A new one ends a long answer that asks current().

export const rest = () => new Promise((go) => setTimeout(go));   // lets the next question in

/** `answers`: by name a function of (what was asked, tell, current), which returns or promises an answer; tell(part) sends what there is so far. */
export function serve(answers) {
  let newest = 0;
  self.onmessage = async ({ data: { id, call, args } }) => {
    if (call !== "open") newest = id;
    try {
      const answer = await answers[call](args, (part) => self.postMessage({ id, part }), () => newest === id);
      self.postMessage({ id, answer });
    } catch (error) {
      self.postMessage({ id, error: String(error?.message ?? error), kind: error?.name });
    }
  };
}
