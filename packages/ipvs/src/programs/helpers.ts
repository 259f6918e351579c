/** A program for each helper, at its number. */
import { tcProgram } from '@ipvsd/bpf';
import { byFamily } from '../director.ts';
import { ftp } from '../helper/ftp.ts';
import { help } from '../helper/helper.ts';
import { irc } from '../helper/irc.ts';
import { pptp } from '../helper/pptp.ts';
import { rtsp } from '../helper/rtsp.ts';
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
export const rtspProgram = helpers.set(
  rtsp.number,
  tcProgram('ipvsd_rtsp', (skb) => byFamily(skb, (packet, family) => help(packet, family, rtsp))),
);
export const ircProgram = helpers.set(
  irc.number,
  tcProgram('ipvsd_irc', (skb) => byFamily(skb, (packet, family) => help(packet, family, irc))),
);
export const pptpProgram = helpers.set(
  pptp.number,
  tcProgram('ipvsd_pptp', (skb) => byFamily(skb, (packet, family) => help(packet, family, pptp))),
);
