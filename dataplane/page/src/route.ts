// Addresses within the page: `#/c/<conversation>` and `#/m/<message>`.

const UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}";
const ROUTE = new RegExp(`^#/([cm])/(${UUID})$`, "i");

export type Route = { readonly kind: "conversation" | "message"; readonly id: string } | { readonly kind: "none" };

export function read(hash: string): Route {
  const [, kind, id] = ROUTE.exec(hash) ?? [];
  if (kind === undefined || id === undefined) return { kind: "none" };
  return { kind: kind.toLowerCase() === "m" ? "message" : "conversation", id: id.toLowerCase() };
}
