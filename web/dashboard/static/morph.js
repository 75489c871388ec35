// Makes a live element equal to a new version of itself by changing only what differs, so that the focus, a selection,
// an open <details> and the reader's place all stay.

export function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !kept(old, name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && !kept(old, name)) old.setAttribute(name, value);
  }
  const byId = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let place = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    const known = next.id && byId.get(next.id);
    if (known && known !== place) {
      old.insertBefore(known, place);
      place = known;
    }
    if (place && alike(place, next)) {
      if (place.nodeType === Node.ELEMENT_NODE) morph(place, next);
      else if (place.data !== next.data) place.data = next.data;
      place = place.nextSibling;
    } else {
      old.insertBefore(document.importNode(next, true), place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

function alike(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName && (one.id || "") === (other.id || "");
}

function kept(element, name) {
  return (name === "open" && element.nodeName === "DETAILS") || element.nodeName === "PROGRESS";
}
