// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ISettlementLedger} from "../src/ISettlementLedger.sol";
import {SettlementLedger} from "../src/SettlementLedger.sol";
import {LedgerTest} from "./LedgerTest.sol";
import {vm} from "./Vm.sol";

/// @notice Two of three auditors.
contract QuorumTest is LedgerTest {
    function hands() internal view override returns (ISettlementLedger.Hands memory) {
        return handsOf(ADMIN, threeAuditors(), 2);
    }

    function test_a_later_attestation_counts_for_what_came_before() public {
        post(bytes32("one"), 1);
        post(bytes32("two"), 2);
        attest(1, AUDITOR);
        vm.assertEq(ledger.attested(), 0, "one is not enough");
        post(bytes32("three"), 3);
        vm.expectEmit(address(ledger));
        emit ISettlementLedger.QuorumReached(1, ledger.head());
        attest(3, AUDITOR_2);
        vm.assertEq(ledger.attested(), 1, "both vouch for the first");
        attest(2, AUDITOR_3);
        vm.assertEq(ledger.attested(), 2, "two of three for the second");
        vm.assertEq(ledger.attestedBy(AUDITOR_2), 3, "by itself");
    }

    function test_nobody_attests_twice() public {
        uint256 one = post(bytes32("one"), 1);
        attest(one, AUDITOR);
        bytes32 head = ledger.head();
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.PostAttested.selector, one, one));
        vm.prank(AUDITOR);
        ledger.attest(one, head);
    }

    function test_a_dispute_voids_what_has_not_made_a_quorum() public {
        uint256 one = post(bytes32("one"), 1);
        uint256 two = post(bytes32("two"), 2);
        attest(one, AUDITOR);
        dispute(two);
        vm.assertEq(ledger.attestedBy(AUDITOR), 0, "void");
        attest(one, AUDITOR_2);
        vm.assertEq(ledger.attested(), 0, "one again");
        attest(one, AUDITOR);
        vm.assertEq(ledger.attested(), one, "and two");
        dispute(post(bytes32("two"), 2));
        vm.assertEq(ledger.attested(), one, "a quorum stays");
    }

    function test_an_auditor_who_leaves_takes_the_attestation_along() public {
        uint256 one = post(bytes32("one"), 1);
        attest(one, AUDITOR);
        bytes32 role = ledger.AUDITOR_ROLE();
        vm.prank(ADMIN);
        ledger.revokeRole(role, AUDITOR);
        vm.assertEq(ledger.auditors().length, 2, "two are left");
        attest(one, AUDITOR_2);
        vm.assertEq(ledger.attested(), 0, "one of them");
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.QuorumOutOfRange.selector, 2, 1));
        vm.prank(ADMIN);
        ledger.revokeRole(role, AUDITOR_2);
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.QuorumOutOfRange.selector, 2, 1));
        vm.prank(AUDITOR_2);
        ledger.renounceRole(role, AUDITOR_2);
    }

    function test_the_quorum_is_the_admins_and_within_the_auditors() public {
        for (uint8 wrong = 0; wrong < 8; wrong += 4) {
            vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.QuorumOutOfRange.selector, wrong, 3));
            vm.prank(ADMIN);
            ledger.setQuorum(wrong);
            vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.QuorumOutOfRange.selector, wrong, 3));
            new SettlementLedger(settingsOf(token, DELAY), handsOf(ADMIN, threeAuditors(), wrong));
        }
        vm.expectEmit(address(ledger));
        emit ISettlementLedger.QuorumChanged(2, 3, ADMIN);
        vm.prank(ADMIN);
        ledger.setQuorum(3);
        uint256 one = post(bytes32("one"), 1);
        attest(one, AUDITOR);
        attest(one, AUDITOR_2);
        vm.assertEq(ledger.attested(), 0, "all three now");
        attest(one, AUDITOR_3);
        vm.assertEq(ledger.attested(), one, "are needed");
    }

    function test_auditors_are_sixteen_at_most() public {
        bytes32 role = ledger.AUDITOR_ROLE();
        for (uint160 i = 0; i < 13; ++i) {
            vm.prank(ADMIN);
            ledger.grantRole(role, address(0x1000 + i));
        }
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.AuditorsTooMany.selector, 16));
        vm.prank(ADMIN);
        ledger.grantRole(role, address(0x2000));
    }

    /// @dev A cumulative that a later post corrects downwards is still paid by the older one: the admin revokes that one.
    function test_a_corrected_cumulative_is_paid_by_the_older_post_until_it_is_revoked() public {
        Payouts memory before = payoutsOf(1_000, 500, 0);
        uint256 one = post(before);
        attest(one, AUDITOR);
        attest(one, AUDITOR_2);
        wait(DELAY);
        Payouts memory corrected = payoutsOf(400, 500, 600);
        uint256 two = post(corrected);
        attest(two, AUDITOR);
        attest(two, AUDITOR_2);
        revoke(one);
        wait(DELAY);
        expectNotActive(one, before, 0);
        vm.assertEq(claim(two, corrected, 0) + claim(two, corrected, 1) + claim(two, corrected, 2), 1_500, "all of it");
    }
}
