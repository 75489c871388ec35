// Shows times and languages in the reader's own format, in place of the server's UTC and codes.

const language = () => document.documentElement.lang;

export function localize(root = document) {
  const now = Date.now() / 1000;
  const ago = new Intl.RelativeTimeFormat(language(), { numeric: "auto", style: "short" });
  for (const time of root.querySelectorAll("time[data-at]")) {
    const at = Number(time.dataset.at);
    const text = relative(ago, at - now);
    if (time.textContent !== text) time.textContent = text;
    const title = new Date(at * 1000).toLocaleString(language());
    if (time.title !== title) time.title = title;
  }
  const names = new Intl.DisplayNames(language(), { type: "language" });
  for (const element of root.querySelectorAll("[data-language]")) {
    element.textContent = named(names, element.dataset.language);
  }
}

export function nameLanguages(select) {
  const names = new Intl.DisplayNames(language(), { type: "language" });
  const options = [...select.options].filter((option) => option.value);
  for (const option of options) option.text = named(names, option.value);
  const order = new Intl.Collator(language()).compare;
  select.append(...options.sort((one, other) => order(one.text, other.text)));
}

function relative(format, seconds) {
  const units = [["day", 86400], ["hour", 3600], ["minute", 60]];
  for (const [unit, size] of units) {
    if (Math.abs(seconds) >= size) return format.format(Math.trunc(seconds / size), unit);
  }
  return format.format(Math.trunc(seconds / 5) * 5, "second");
}

function named(names, code) {
  try {
    return names.of(code) ?? code;
  } catch {
    return code;
  }
}
