/** Directors that outlive their namespace, and those that only look like it. */
import { existsSync } from 'node:fs';
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import { createNamespace, deleteNamespace, inNamespace } from '@ipvsd/linux';
import { afterEach, expect, test } from 'vitest';
import { KernelPlane } from './kernel-plane.ts';

const names: string[] = [];
const planes: KernelPlane[] = [];

function makeIn(name: string): KernelPlane {
  createNamespace(name);
  names.push(name);
  const plane = inNamespace(name, () => KernelPlane.create({ maxConnections: 64 }));
  planes.push(plane);
  return plane;
}

function remove(name: string): void {
  deleteNamespace(name);
  names.splice(names.indexOf(name), 1);
}

describeKernel('the next director that is made', () => {
  afterEach(() => {
    for (const plane of planes.splice(0)) if (existsSync(plane.folder)) plane.detach();
    for (const name of names.splice(0)) deleteNamespace(name);
  });

  test('removes what a namespace without interfaces left behind, and nothing of one that lives', () => {
    const [left, living] = [uniqueName('left'), uniqueName('living')];
    const abandoned = makeIn(left);
    const idle = makeIn(living);
    abandoned.close();
    remove(left);
    expect(existsSync(abandoned.folder)).toBe(true);
    makeIn(uniqueName('next'));
    expect(existsSync(abandoned.folder)).toBe(false);
    expect(existsSync(idle.folder)).toBe(true);
  });
});
