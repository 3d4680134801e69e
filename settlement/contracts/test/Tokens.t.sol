// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ISettlementLedger} from "../src/ISettlementLedger.sol";
import {SettlementLedger} from "../src/SettlementLedger.sol";
import {LedgerTest} from "./LedgerTest.sol";
import {TestToken} from "./Tokens.sol";
import {bound, vm} from "./Vm.sol";

/// @notice Tokens that are large, take fees, refuse, shrink or call back.
contract TokensTest is LedgerTest {
    function testFuzz_18_decimals(uint256 alice, uint256 bob) public {
        token = new TestToken(18);
        ledger = deploy(token, DELAY);
        alice = bound(alice, 1, 10_000_000_000e18);
        bob = bound(bob, 1, 10_000_000_000e18);
        Payouts memory payouts = payoutsOf(alice, bob, 0);
        vm.prank(ADMIN);
        ledger.setMaxStep(20_000_000_000e18);
        token.mint(address(ledger), alice + bob);
        uint256 one = activate(payouts);
        claim(one, payouts, 0);
        claim(one, payouts, 1);
        vm.assertEq(token.balanceOf(ALICE), alice, "Alice");
        vm.assertEq(token.balanceOf(BOB), bob, "Bob");
        vm.assertEq(ledger.owed(), 0, "nothing owed");
    }

    /// @dev Not supported, but not dangerous: the payee bears the fee, and the ledger stays solvent.
    function testFuzz_fee_on_transfer_is_borne_by_the_payee(uint256 percent) public {
        percent = bound(percent, 0, 100);
        Payouts memory payouts = payoutsOf(1_000, 2_000, 3_000);
        uint256 one = activate(payouts);
        token.setFeePercent(percent);
        ledger.claimMany(one, batchOf(payouts));
        vm.assertEq(ledger.claimed(), 6_000, "claimed in full");
        vm.assertEq(token.balanceOf(CAROL), 3_000 - 30 * percent, "received less");
        vm.assertEq(token.balanceOf(address(ledger)), MONEY - 6_000, "the ledger paid no more than was owed");
    }

    /// @dev What a fee takes from a funding transfer never counts as funded.
    function test_fee_on_funding_counts_what_arrives() public {
        token.burn(address(ledger), MONEY);
        token.mint(address(this), 1_000);
        token.setFeePercent(10);
        token.transfer(address(ledger), 1_000);
        vm.assertEq(ledger.free(), 900, "what arrived");
        bytes32 head = ledger.head();
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.Underfunded.selector, 900, 901, 0));
        vm.prank(POSTER);
        ledger.post(1, head, "w", "p", "m", uint64(START - 1), uint64(START), 901, 0);
    }

    /// @dev Not supported: a balance that shrinks. Nothing can be withdrawn or posted until it is made good.
    function test_shrunken_balance_stops_posts_and_withdrawals() public {
        Payouts memory payouts = payoutsOf(MONEY - 1, 0, 0);
        activate(payouts);
        token.burn(address(ledger), 2);
        vm.assertEq(ledger.free(), 0, "nothing is free");
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.WithdrawalExceedsFree.selector, 1, 0));
        vm.prank(ADMIN);
        ledger.withdraw(ADMIN, 1);
        bytes32 head = ledger.head();
        bytes32 root = rootOf(payouts);
        uint64 now_ = uint64(block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.Underfunded.selector, MONEY - 2, MONEY - 1, 0));
        vm.prank(POSTER);
        ledger.post(2, head, "w", root, "m", now_ - 1, now_, MONEY - 1, 0);
        token.mint(address(ledger), 1);
        post(payouts);
    }

    function test_claim_of_a_blacklisted_payee_reverts_and_claimTo_helps() public {
        Payouts memory payouts = payoutsOf(100, 200, 300);
        uint256 one = activate(payouts);
        token.setBlocked(ALICE, true);
        expectClaimRefused(one, payouts, 0, abi.encodeWithSelector(TestToken.Blocked.selector, ALICE));
        bytes32[] memory proof = proofOf(payouts, 0);
        vm.prank(ALICE);
        ledger.claimTo(BOB, one, 100, proof);
        vm.assertEq(token.balanceOf(BOB), 100, "paid to another address of hers");
    }

    /// @dev A token that calls back finds everything that moves or counts money locked.
    function test_nothing_is_reentered() public {
        Payouts memory payouts = payoutsOf(100, 200, 300);
        uint256 one = activate(payouts);
        bytes[3] memory calls = [
            abi.encodeCall(ledger.claim, (BOB, one, 200, proofOf(payouts, 1))),
            abi.encodeCall(ledger.claimMany, (one, batchOf(payouts))),
            abi.encodeCall(ledger.withdraw, (ADMIN, 1))
        ];
        for (uint256 i = 0; i < 3; ++i) {
            token.setHook(address(ledger), calls[i]);
            claim(one, payouts, i);
            vm.assertTrue(!token.hookSucceeded(), "refused");
        }
        vm.assertEq(ledger.claimed(), 600, "each paid once");
        vm.assertEq(token.balanceOf(BOB), 200, "Bob once");
    }

    /// @dev In the middle of a claim what is paid is booked, but has not left: it would look free to the admin, and like
    /// funding to the poster. Both are the token itself here.
    function test_money_on_its_way_is_neither_withdrawn_nor_posted_against() public {
        address thief = address(token);
        Payouts memory payouts = payoutsOf(100, 0, 0);
        ledger = new SettlementLedger(token, "USD", DELAY, MONEY, thief, POSTER, AUDITOR, GUARDIAN);
        token.mint(address(ledger), 100);
        uint256 one = activate(payouts);
        token.setHook(address(ledger), abi.encodeCall(ledger.withdraw, (ANYONE, 100)));
        claim(one, payouts, 0);
        vm.assertTrue(!token.hookSucceeded(), "not withdrawn");

        ledger = new SettlementLedger(token, "USD", DELAY, MONEY, ADMIN, POSTER, AUDITOR, GUARDIAN);
        token.mint(address(ledger), 100);
        one = activate(payouts);
        bytes32 role = ledger.POSTER_ROLE();
        vm.prank(ADMIN);
        ledger.grantRole(role, thief);
        uint64 end = uint64(block.timestamp);
        bytes32 head = ledger.head();
        token.setHook(address(ledger), abi.encodeCall(ledger.post, (2, head, "w", "p", "m", end - 1, end, 200, 0)));
        claim(one, payouts, 0);
        vm.assertTrue(!token.hookSucceeded(), "not posted against");
    }
}
