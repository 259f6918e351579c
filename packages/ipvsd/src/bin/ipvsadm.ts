#!/usr/bin/env node
import { ipvsadmMain } from '@ipvsd/ipvsadm';
import { openDirector, orExplain } from '../open-director.ts';

await orExplain(() => ipvsadmMain(openDirector));
