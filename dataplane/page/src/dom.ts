// Making and changing elements. Text is always text: nothing here reads HTML.

type Child = Node | string | undefined | null | false;
type Properties<E> = { [K in Exclude<keyof E, "attributes">]?: E[K] } & {
  class?: string;
  data?: Record<string, string>;
  aria?: Record<string, string>;
  attributes?: Record<string, string>;
};

/** An element with properties and children; what is false or absent is left out. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Properties<HTMLElementTagNameMap[K]> | string = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  const { class: names, data, aria, attributes, ...rest } = typeof properties === "string" ? { class: properties } : properties;
  if (names) element.className = names;
  Object.assign(element, rest);
  for (const [key, value] of Object.entries(data ?? {})) element.dataset[key] = value;
  for (const [key, value] of Object.entries(aria ?? {})) element.setAttribute(`aria-${key}`, value);
  for (const [key, value] of Object.entries(attributes ?? {})) element.setAttribute(key, value);
  append(element, ...children);
  return element;
}

export function append(parent: ParentNode, ...children: Child[]): void {
  parent.append(...children.filter((child): child is Node | string => !!child || child === ""));
}

/** Sets text only where it differs: a screen reader and a selection notice every change. */
export function say(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag: string, attributes: Record<string, string | number>, ...children: Node[]): SVGElement {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...children);
  return element;
}

/** Outlines on a grid of 24, drawn with the current colour. */
const ICONS = {
  plus: "M12 5v14M5 12h14",
  send: "M12 19V6m-6 6 6-6 6 6",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h10v10H9zM5 15V5h10",
  check: "m5 12.5 4.5 4.5L19 7.5",
  retry: "M19 6v5h-5M5 18v-5h5M18 10a7 7 0 0 0-12-2.5M6 14a7 7 0 0 0 12 2.5",
  link: "M10 14a4 4 0 0 0 5.7 0l3-3A4 4 0 0 0 13 5.300l-1 1M14 10a4 4 0 0 0-5.700 0l-3 3A4 4 0 0 0 11 18.700l1-1",
  kill: "M13 3 5 14h6l-1 7 8-11h-6z",
  drain: "M4 7h10M4 12h7M4 17h10M15 12h6m-2.500-3 3 3-3 3",
  pause: "M9 6v12M15 6v12",
  start: "M8 5.500v13l10.500-6.500z",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6 6 18",
  down: "M12 5v13m-6-6 6 6 6-6",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8M12 3v1.500M12 19.500V21M3 12h1.500M19.500 12H21M5.600 5.600l1.100 1.100M17.300 17.300l1.100 1.100M5.600 18.400l1.100-1.100M17.300 6.700l1.100-1.100",
  moon: "M19.500 14A8 8 0 1 1 10 4.500a6.500 6.500 0 0 0 9.500 9.500z",
  help: "M9.500 9a2.600 2.600 0 1 1 3.700 2.400c-.8.400-1.200 1-1.200 2V14M12 17.500v.1",
  edit: "M5 19h3.500L18.500 9 15 5.500 5 15.500z",
  trash: "M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12",
  flame: "M12 3c1 4 5 5.500 5 10.500A5 5 0 0 1 7 14c0-2 1-3 2-4 .3 1.500 1 2 1.500 2.200C10.500 9 11 6 12 3z",
  spark: "M12 4v4M12 16v4M4 12h4M16 12h4M6.500 6.500l2.500 2.500M15 15l2.500 2.500M6.500 17.500 9 15M15 9l2.500-2.500",
  fleet: "M5 5h14v5H5zM5 14h14v5H5zM8 7.500v.1M8 16.500v.1",
  chevron: "m9 6 6 6-6 6",
  thought: "M9 18h6M10 21h4M12 3a6 6 0 0 0-3.500 10.900c.7.500 1 1.300 1 2.100h5c0-.8.300-1.600 1-2.100A6 6 0 0 0 12 3z",
  tool: "M14.500 6a4 4 0 0 0-5 5L4 16.500 7.500 20 13 14.500a4 4 0 0 0 5-5L15.500 12 12 8.500z",
  quote: "M9 7H5v5h4v1.500A3.500 3.500 0 0 1 5.500 17M19 7h-4v5h4v1.500a3.500 3.500 0 0 1-3.500 3.500",
  reload: "M19 12a7 7 0 1 1-2-5M19 4v4h-4",
  bolt: "M13 3 5 14h6l-1 7 8-11h-6z",
} as const;

export type IconName = keyof typeof ICONS;

export function icon(name: IconName): SVGElement {
  const shape = svg("path", { d: ICONS[name] });
  return svg("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, shape);
}

/** A button that is only an icon to the eye, and words to everybody else. */
export function iconButton(name: IconName, label: string, onclick: () => void, classes = ""): HTMLButtonElement {
  const button = make("button", { class: `icon-button ${classes}`.trim(), type: "button", title: label, aria: { label }, onclick });
  button.append(icon(name));
  return button;
}

/** A button with an icon and words. */
export function textButton(name: IconName, text: string, onclick: () => void, classes = ""): HTMLButtonElement {
  const button = make("button", { class: `button ${classes}`.trim(), type: "button", onclick });
  button.append(icon(name), make("span", {}, text));
  return button;
}
