// What an answer may put on the page: text with structure, links that open elsewhere, nothing that runs,
// loads, looks like the page's own parts or can be found by name.

import DOMPurify from "dompurify";

const TAGS = [
  ...["p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "ul", "ol", "li", "input"],
  ...["pre", "code", "kbd", "em", "strong", "b", "i", "u", "s", "del", "ins", "mark", "sub", "sup", "small", "a"],
  ...["table", "thead", "tbody", "tr", "th", "td", "details", "summary", "dl", "dt", "dd"],
];
const ATTRIBUTES = ["href", "title", "align", "start", "checked", "disabled", "type", "colspan", "rowspan", "open", "class"];
const LINKS = /^(?:https?:\/\/|mailto:)/i;
const LANGUAGE = /^language-[\w+#.-]{1,30}$/;

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (!(node instanceof Element)) return;
  // Only a language may be told by a class: any other name belongs to the page.
  const names = node.getAttribute("class");
  if (names !== null && !(node.localName === "code" && LANGUAGE.test(names))) node.removeAttribute("class");
  if (node.localName === "a") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  }
  if (node.localName === "input") {
    // A task list's box, and nothing that can be typed into.
    if (node.getAttribute("type") !== "checkbox") node.remove();
    else node.setAttribute("disabled", "");
  }
});

export function sanitised(html: string): DocumentFragment {
  return DOMPurify.sanitize(html, {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ATTRIBUTES,
    ALLOWED_URI_REGEXP: LINKS,
    // Values that are no addresses are not judged as such.
    ADD_URI_SAFE_ATTR: ["align", "start", "type", "colspan", "rowspan", "class"],
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  });
}
