// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IShareOffering} from "../src/IShareOffering.sol";
import {ShareOffering} from "../src/ShareOffering.sol";
import {AliceOnly} from "./Shares.t.sol";
import {SharesTest} from "./SharesTest.sol";
import {TestToken} from "./Tokens.sol";
import {bound, vm} from "./Vm.sol";

/// @notice Offerings: terms, price, cap, end.
contract OfferingTest is SharesTest {
    function test_the_seller_buys_nothing_from_itself() public {
        ShareOffering offering = offer(400);
        token.mint(ISSUER, 100 * PRICE);
        vm.prank(ISSUER);
        token.approve(address(offering), 100 * PRICE);
        vm.expectRevert(IShareOffering.SellerBuys.selector);
        vm.prank(ISSUER);
        offering.buy(100, 100 * PRICE);
    }

    function test_buying_moves_shares_and_money_at_once() public {
        ShareOffering offering = offer(400);
        token.mint(ALICE, 100 * PRICE);
        vm.prank(ALICE);
        token.approve(address(offering), 100 * PRICE);
        vm.expectEmit(address(offering));
        emit IShareOffering.SharesBought(ALICE, 100, 100 * PRICE);
        vm.prank(ALICE);
        vm.assertEq(offering.buy(100, 100 * PRICE), 100 * PRICE, "cost");
        vm.assertEq(shares.balanceOf(ALICE), 100, "shares");
        vm.assertEq(token.balanceOf(ISSUER), 100 * PRICE, "the issuer's money");
        vm.assertEq(offering.sold(), 100, "sold");
        vm.assertEq(offering.available(), 300, "left");
        vm.assertEq(token.balanceOf(address(offering)) + shares.balanceOf(address(offering)), 0, "it holds nothing");
    }

    function test_terms_are_kept_and_hashed() public {
        ShareOffering offering = offer(400);
        IShareOffering.Terms memory terms = offering.terms();
        IShareOffering.Terms memory given = termsUntil(block.timestamp + 365 days);
        vm.assertEq(keccak256(abi.encode(terms)), keccak256(abi.encode(given)), "as given");
        bytes32 expected = keccak256(
            abi.encode(offering.TERMS_TYPEHASH(), block.chainid, address(shares), keccak256("pv-1"), given)
        );
        vm.assertEq(offering.termsHash(), expected, "hash");
        vm.assertEq(offering.seller(), ISSUER, "seller");
    }

    function test_a_lock_shorter_than_the_term_is_refused() public {
        IShareOffering.Terms memory terms = termsUntil(block.timestamp + 365 days);
        terms.lockedUntil -= 1;
        vm.expectRevert(
            abi.encodeWithSelector(IShareOffering.LockTooShort.selector, terms.lockedUntil, terms.termEnd)
        );
        new ShareOffering(shares, PRICE, 1, block.timestamp + 1, terms);
    }

    function test_parameters_are_checked() public {
        IShareOffering.Terms memory terms = termsUntil(block.timestamp + 365 days);
        uint256 closesAt = block.timestamp + 1;
        vm.expectRevert(IShareOffering.PriceZero.selector);
        new ShareOffering(shares, 0, 1, closesAt, terms);
        vm.expectRevert(abi.encodeWithSelector(IShareOffering.CapOutOfRange.selector, 0, SUPPLY));
        new ShareOffering(shares, PRICE, 0, closesAt, terms);
        vm.expectRevert(abi.encodeWithSelector(IShareOffering.CapOutOfRange.selector, SUPPLY + 1, SUPPLY));
        new ShareOffering(shares, PRICE, SUPPLY + 1, closesAt, terms);
        uint256[2] memory ends = [block.timestamp, terms.termEnd + 1];
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IShareOffering.TimesInvalid.selector, ends[i], terms.termEnd));
            new ShareOffering(shares, PRICE, 1, ends[i], terms);
        }
        uint16[2] memory points = [uint16(0), 10_001];
        for (uint256 i = 0; i < 2; ++i) {
            terms.points = points[i];
            vm.expectRevert(abi.encodeWithSelector(IShareOffering.PointsOutOfRange.selector, points[i]));
            new ShareOffering(shares, PRICE, 1, closesAt, terms);
        }
    }

    function test_cap_price_and_end_hold() public {
        ShareOffering offering = offer(400);
        buy(offering, ALICE, 399);
        token.mint(BOB, 10 * PRICE);
        vm.prank(BOB);
        token.approve(address(offering), 10 * PRICE);
        expectRefused(offering, 2, 2 * PRICE, abi.encodeWithSelector(IShareOffering.CapReached.selector, 2, 1));
        expectRefused(offering, 0, PRICE, abi.encodeWithSelector(IShareOffering.AmountZero.selector));
        expectRefused(
            offering, 1, PRICE - 1, abi.encodeWithSelector(IShareOffering.CostTooHigh.selector, PRICE, PRICE - 1)
        );
        wait(30 days);
        vm.assertEq(offering.available(), 0, "over");
        expectRefused(offering, 1, PRICE, abi.encodeWithSelector(IShareOffering.SaleOver.selector));
    }

    function expectRefused(ShareOffering offering, uint256 amount, uint256 most, bytes memory reason) internal {
        vm.expectRevert(reason);
        vm.prank(BOB);
        offering.buy(amount, most);
    }

    function test_the_seller_alone_closes_it() public {
        ShareOffering offering = offer(400);
        vm.expectRevert(abi.encodeWithSelector(IShareOffering.NotSeller.selector, ALICE));
        vm.prank(ALICE);
        offering.close();
        vm.expectEmit(address(offering));
        emit IShareOffering.OfferingClosed(0);
        vm.prank(ISSUER);
        offering.close();
        expectRefused(offering, 1, PRICE, abi.encodeWithSelector(IShareOffering.SaleOver.selector));
        vm.expectRevert(IShareOffering.SaleOver.selector);
        vm.prank(ISSUER);
        offering.close();
    }

    function test_what_the_seller_no_longer_has_is_not_sold() public {
        ShareOffering offering = offer(SUPPLY);
        give(ISSUER, CAROL, SUPPLY - 1);
        vm.assertEq(offering.available(), 1, "one share left");
        token.mint(BOB, 2 * PRICE);
        vm.prank(BOB);
        token.approve(address(offering), 2 * PRICE);
        vm.prank(BOB);
        (bool ok,) = address(offering).call(abi.encodeCall(offering.buy, (2, 2 * PRICE)));
        vm.assertTrue(!ok, "refused");
        vm.assertEq(token.balanceOf(BOB), 2 * PRICE, "and nothing paid");
    }

    function test_a_policy_rules_sales_too() public {
        shares = issue(SUPPLY, new AliceOnly(ALICE));
        ShareOffering offering = offer(SUPPLY);
        buy(offering, ALICE, 1);
        token.mint(BOB, PRICE);
        vm.prank(BOB);
        token.approve(address(offering), PRICE);
        vm.prank(BOB);
        (bool ok,) = address(offering).call(abi.encodeCall(offering.buy, (1, PRICE)));
        vm.assertTrue(!ok, "Bob may not hold them");
    }

    function test_unsold_shares_earn_for_the_issuer() public {
        ShareOffering offering = offer(400);
        buy(offering, ALICE, 400);
        pay(1_000);
        wait(RELEASE);
        vm.assertEq(withdraw(ALICE), 400, "the sold ones");
        vm.assertEq(shares.withdrawable(ISSUER), 600, "the others");
    }

    function testFuzz_cost_is_amount_times_price(uint256 amount) public {
        ShareOffering offering = offer(SUPPLY);
        amount = bound(amount, 1, SUPPLY);
        buy(offering, ALICE, amount);
        vm.assertEq(token.balanceOf(ISSUER), amount * PRICE, "paid");
        vm.assertEq(shares.balanceOf(ALICE), amount, "got");
    }
}
