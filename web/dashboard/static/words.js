// The texts that scripts show, in the reader's language.

export function word(name, values = {}) {
  const texts = JSON.parse(document.getElementById("texts").textContent);
  return texts[name].replace(/\{(\w+)\}/g, (whole, key) => values[key] ?? whole);
}

export function say(text) {
  document.getElementById("said").textContent = text;
}
