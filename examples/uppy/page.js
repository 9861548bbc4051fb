// The parts of both pages around Uppy's Dashboard: how to send the files, and which object keys they got.
//
// `npm ci` in this folder installs Uppy and bundles the pages. `examples/backend.mjs` serves them: /uppy/6/ and /uppy/5/.

/** Returns the settings in the form, which the query of the page's URL sets. */
export function settings() {
  const query = new URLSearchParams(location.search);
  const form = document.querySelector("form");
  for (const [name, value] of query) {
    const field = form.elements.namedItem(name);
    if (field) field.value = value;
  }
  form.addEventListener("change", () => form.requestSubmit());
  const { elements } = form;
  const bytes = (name) => elements.namedItem(name).valueAsNumber * 1024 * 1024;
  return {
    form: elements.namedItem("by").value === "form",
    multipartAbove: bytes("multipart-above"),
    partSize: bytes("part-size"),
  };
}

/** Lists the object key of each file that was uploaded. */
export function listObjectKeys(uppy) {
  const list = document.querySelector("#object-keys");
  uppy.on("upload-success", (_, { body }) => {
    const item = document.createElement("li");
    item.textContent = body.key;
    list.append(item);
    list.parentElement.hidden = false;
  });
}
