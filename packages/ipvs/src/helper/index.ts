/** All helpers; the number of one is its place in the table of programs, and in the flags of a connection. */
import { ftp } from './ftp.ts';
import type { Helper } from './helper.ts';
import { irc } from './irc.ts';
import { pptp } from './pptp.ts';
import { rtsp } from './rtsp.ts';
import { tftp } from './tftp.ts';

export const HELPERS: readonly Helper[] = [ftp, tftp, rtsp, irc, pptp];
