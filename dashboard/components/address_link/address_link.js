// One link; Streamlit runs this function again whenever its data change. Only paths below this dashboard's own root are made.
export default function ({ data, parentElement }) {
  let link = parentElement.querySelector("a")
  if (!link) {
    link = document.createElement("a")
    parentElement.append(link)
  }
  const here = new URL(document.baseURI)
  const root = here.pathname.replace(/[^/]*$/, "")
  link.textContent = data.label
  link.title = data.help
  link.href = `${here.origin}${root}${encodeURIComponent(data.page)}${data.query ? `?${data.query}` : ""}`
}
