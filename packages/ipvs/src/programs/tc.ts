/** The program on each interface of the director, on packets as they arrive. */
import { tcProgram } from '@ipvsd/bpf';
import { director } from '../director.ts';

export const ingress = tcProgram('ipvsd_ingress', (skb) => director(skb));
