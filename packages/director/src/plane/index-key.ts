/** The key of an element of an array map. */
export const indexKey = (index: number): Uint8Array => new Uint8Array(Uint32Array.of(index).buffer);
