/** A program for each helper, at its number. */
import { tcProgram } from '@ipvsd/bpf';
import { byFamily } from '../director.ts';
import { ftp } from '../helper/ftp.ts';
import { help } from '../helper/helper.ts';
import { tftp } from '../helper/tftp.ts';
import { helpers } from '../stages.ts';

export const ftpProgram = helpers.set(
  ftp.number,
  tcProgram('ipvsd_ftp', (skb) => byFamily(skb, (packet, family) => help(packet, family, ftp))),
);
export const tftpProgram = helpers.set(
  tftp.number,
  tcProgram('ipvsd_tftp', (skb) => byFamily(skb, (packet, family) => help(packet, family, tftp))),
);
