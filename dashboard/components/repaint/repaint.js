// Says when the reader's theme switched, so that figures drawn with the old colours are drawn again.
// Streamlit runs this function again at every switch; one message is sent, and none otherwise.
const seen = new WeakMap()

export default function ({ parentElement, setTriggerValue }) {
  const host = parentElement.host ?? parentElement
  const now = getComputedStyle(host).getPropertyValue("--st-background-color").trim()
  const before = seen.get(host)
  seen.set(host, now)
  if (before !== undefined && before !== now) setTriggerValue("theme", now)
}
